"""What handlers are given; everything is made once, in `app.main`."""

from typing import Annotated

from fastapi import Depends, Request

from app import decoding, explanation, feedback, serving, settings, shadow


async def _serving(request: Request) -> serving.Serving:
    found: serving.Serving = request.app.state.serving
    return found


async def _decoder(request: Request) -> decoding.Decoder:
    found: decoding.Decoder = request.app.state.decoder
    return found


async def _explainer(request: Request) -> explanation.Explainer:
    found: explanation.Explainer = request.app.state.explainer
    return found


async def _feedback(request: Request) -> feedback.Feedback:
    found: feedback.Feedback = request.app.state.feedback
    return found


async def _shadow(request: Request) -> shadow.Shadow:
    found: shadow.Shadow = request.app.state.shadow
    return found


async def _settings(request: Request) -> settings.Settings:
    found: settings.Settings = request.app.state.settings
    return found


Serving = Annotated[serving.Serving, Depends(_serving)]
Decoder = Annotated[decoding.Decoder, Depends(_decoder)]
Explainer = Annotated[explanation.Explainer, Depends(_explainer)]
Feedback = Annotated[feedback.Feedback, Depends(_feedback)]
Shadow = Annotated[shadow.Shadow, Depends(_shadow)]
Settings = Annotated[settings.Settings, Depends(_settings)]
