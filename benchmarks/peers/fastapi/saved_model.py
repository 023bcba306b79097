"""A careful service by hand: the SavedModel's signature, called from FastAPI's pool of threads."""

import os

import network
import uvicorn
from fastapi import Body, FastAPI, UploadFile

app = FastAPI()
model = network.load()


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, object]:
    return classify(file.file.read())


@app.post("/predict/raw")
def predict_raw(data: bytes = Body(media_type="application/octet-stream")) -> dict[str, object]:
    return classify(data)


def classify(data: bytes) -> dict[str, object]:
    return network.answer(model(network.decode(data)[None])[0])


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PEER_PORT"]), access_log=False)
