"""MLServer with a runtime of one's own: pictures come in its protocol as base64, adaptive batching on."""

import network
import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classifier(MLModel):
    async def load(self) -> bool:
        self.model = network.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = np.stack([network.decode(data) for data in Base64Codec.decode_input(payload.inputs[0])])
        output = NumpyCodec.encode_output("probabilities", self.model(images))
        return InferenceResponse(model_name=self.name, outputs=[output])
