"""Answer over HTTP: an image and questions in, answers with scores out; requests that come together are one batch.

    python examples/serve.py --model runs/easy-vqa
    curl -F image=@shape.png -F "question=what color is the shape?" http://127.0.0.1:8000/answers

Several `question` fields cost the image once. It listens on this machine alone: before others may ask, put a server
in front that knows who they are.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from PIL.Image import Image
from transformers import HfArgumentParser, pipeline

import otmerge_hf  # noqa: F401 -- registers the model, its processor and the pipeline
from otmerge_hf.data import RefusedImageError, open_upload
from otmerge_hf.model.texts import check_texts


try:
    import python_multipart  # noqa: F401 -- reads the form
    import uvicorn
    from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
except ModuleNotFoundError as error:
    sys.exit(f'error: {error.name} is not installed: pip install "otmerge-hf[serve]"')


STATUS = {"unknown": 415, "large": 413, "damaged": 422}  # of a refused image, by why


@dataclass
class Options:
    """What to serve, where, and how much at once."""

    model: str = field(metadata={"help": "Folder or Hub name of the merge."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; this machine alone by default."})
    port: int = field(default=8000, metadata={"help": "Port to listen on."})
    device: str = field(default="cpu", metadata={"help": "Where the merge runs, such as cuda."})
    max_batch: int = field(default=8, metadata={"help": "Images that go through the model together."})
    max_wait: float = field(default=0.01, metadata={"help": "Seconds that a batch waits for more of them."})
    max_queue: int = field(default=16, metadata={"help": "Requests that wait with their opened images; more: 503."})
    max_questions: int = field(default=32, metadata={"help": "Questions of one request."})
    max_characters: int = field(default=1000, metadata={"help": "Size of a question."})
    max_megabytes: float = field(default=10.0, metadata={"help": "Size of a request (10^6 bytes)."})
    max_megapixels: float = field(default=20.0, metadata={"help": "Size of an image (10^6 pixels)."})

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "max_wait" else 1e-6
            if name.startswith("max_") and not least <= value < float("inf"):
                raise ValueError(f"--{name} is {value}; expected a number{' above' if least else ', at least'} 0")


class Batches:
    """`await batches.ask(image, questions, gone)`: logits (questions, answers), computed with what else came."""

    def __init__(self, pipe: Any, options: Options) -> None:
        self.model, self.processor, self.options = pipe.model, pipe.processor, options
        self.queue: asyncio.Queue = asyncio.Queue(options.max_queue)

    async def ask(self, image: Image, questions: list[str], gone: Callable[[], Awaitable[bool]]) -> torch.Tensor:
        answered = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((image, questions, answered, gone))
        except asyncio.QueueFull:
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": "1"}) from None
        return await answered

    async def run(self) -> None:
        """Take batches from the queue, for ever."""
        while True:
            rows, last = [await self.queue.get()], asyncio.get_running_loop().time() + self.options.max_wait
            while len(rows) < self.options.max_batch:
                try:
                    async with asyncio.timeout_at(last):
                        rows.append(await self.queue.get())
                except TimeoutError:
                    break
            for *_, answered, gone in rows:
                if not answered.done() and await gone():
                    answered.set_exception(HTTPException(499, "nobody waits for the answer"))
            await self.answer([row for row in rows if not row[2].done()])

    async def answer(self, rows: list[tuple]) -> None:
        if not rows:
            return
        images, questions, futures, _ = zip(*rows, strict=True)
        try:
            found = await asyncio.to_thread(self.compute, images, questions)
        except Exception as error:
            if len(rows) > 1:  # one row's fault must not be all rows'
                for row in rows:
                    await self.answer([row])
            elif not futures[0].done():
                futures[0].set_exception(error)
            return
        for future, logits in zip(futures, found, strict=True):
            if not future.done():
                future.set_result(logits)

    @torch.inference_mode()
    def compute(self, images: Iterable[Image], questions: Iterable[list[str]]) -> tuple[torch.Tensor, ...]:
        """Logits of each image's questions; each image is encoded once."""
        counts = torch.tensor([len(some) for some in questions])
        pixels = self.processor(images=list(images), return_tensors="pt").to(self.model.device, self.model.dtype)
        texts = self.processor(text=[one for some in questions for one in some], return_tensors="pt")
        rows = torch.arange(len(counts)).repeat_interleave(counts)
        found = self.model(**pixels, **texts.to(self.model.device), context_index=rows.to(self.model.device))
        return found.logits.float().cpu().split(counts.tolist())


class LimitBody:
    """ASGI middleware: counts what really comes, whatever Content-Length says, and ends what is too long."""

    def __init__(self, app: Any, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        count = 0

        async def counted() -> dict:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count <= self.limit:
                return message
            while message.get("more_body") and count < 4 * self.limit:  # one that has not sent all does not listen yet
                message = await receive()
                count += len(message.get("body", b""))
            raise HTTPException(413, f"the request has more than {self.limit:,} bytes", {"Connection": "close"})

        await self.app(scope, counted, send)


def create_app(pipe: Any, options: Options) -> FastAPI:
    """The application: `POST /answers`, `GET /health`."""
    batches, opening = Batches(pipe, options), asyncio.Semaphore(4)  # images that are decoded at a time

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        worker = asyncio.create_task(batches.run())
        yield
        worker.cancel()

    app = FastAPI(title="otmerge", lifespan=lifespan, docs_url=None, redoc_url=None)  # their pages load others' code
    app.add_middleware(LimitBody, limit=round(options.max_megabytes * 1e6))

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Any, error: RequestValidationError) -> JSONResponse:
        named = [([part for part in e["loc"] if isinstance(part, str)][-1], e["msg"]) for e in error.errors()]
        return JSONResponse({"detail": "; ".join(f"`{name}`: {message}" for name, message in named)}, 422)

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "model": options.model, "answers": pipe.model.config.num_labels}

    @app.post("/answers")
    async def answers(
        request: Request,
        image: Annotated[UploadFile, File()],
        question: Annotated[list[str], Form(max_length=options.max_questions)],
        top_k: Annotated[int, Form(ge=1)] = 5,
    ) -> dict:
        try:
            for row, text in enumerate(question):
                if len(text) > options.max_characters:
                    longest = f"{len(text):,} characters; expected at most {options.max_characters:,}"
                    raise ValueError(f"`question` row {row} has {longest}.")
            check_texts("question", question)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        try:
            async with opening:
                opened = await asyncio.to_thread(open_upload, await image.read(), options.max_megapixels * 1e6)
        except RefusedImageError as error:
            raise HTTPException(STATUS[error.reason], str(error)) from None
        logits = await batches.ask(opened, question, request.is_disconnected)
        found = [pipe.postprocess({"logits": row[None]}, top_k) for row in logits]
        return {"results": [{"question": q, "answers": a} for q, a in zip(question, found, strict=True)]}

    return app


def load_pipeline(options: Options) -> Any:
    """The merge's pipeline, or a ValueError that names the flag: transformers' own does not name the folder."""
    try:
        return pipeline("otmerge-vqa", model=options.model, device=options.device)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--model {options.model!r} cannot be loaded: {reason}") from error


def main() -> None:
    try:
        options = HfArgumentParser(Options).parse_args_into_dataclasses()[0]
        pipe = load_pipeline(options)
        if pipe.looked_at != "image":
            raise ValueError(f"--model {options.model!r} looks at {pipe.row.name}s; expected one that looks at images")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")
    uvicorn.run(create_app(pipe, options), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
