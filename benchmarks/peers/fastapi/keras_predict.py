"""The usual tutorial: a Keras model, `Model.predict`, and an upload that is read on the event loop."""

import os

import keras
import network
import uvicorn
from fastapi import FastAPI, Request, UploadFile

app = FastAPI()
model = keras.Sequential(
    [
        keras.Input(shape=(*network.SIZE[::-1], 3), dtype="uint8"),
        keras.layers.TFSMLayer(str(network.MODEL), call_endpoint="serving_default"),
    ]
)


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, object]:
    return classify(await file.read())


@app.post("/predict/raw")
async def predict_raw(request: Request) -> dict[str, object]:
    return classify(await request.body())


def classify(data: bytes) -> dict[str, object]:
    image = network.decode(data)
    return network.answer(model.predict(image[None], verbose=0)["probabilities"][0])


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PEER_PORT"]), access_log=False)
