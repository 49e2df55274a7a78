"""The Hub's HTTP API on loopback, as far as transformers talks to it: repositories, commits, revisions, large files.

Tests start `StandIn`, which serves in a thread, and point huggingface_hub at its `url`.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


USER, TOKEN = "org", "hf_of_the_tests"
LARGE = (".safetensors", ".bin", ".onnx")  # what the Hub keeps as LFS whatever its size


class Refusal(Exception):
    def __init__(self, status, code, message=""):
        super().__init__(message or code)
        self.status, self.code = status, code


class Repository:
    """A model repository: commits of files, and branches that name them."""

    def __init__(self):
        self.commits, self.branches = {}, {}
        self.commit({}, "initial commit")

    def commit(self, files, message, branch="main"):
        held = sorted((path, identity(path, data)) for path, data in files.items())
        oid = hashlib.sha1(f"{len(self.commits)} {held}".encode()).hexdigest()
        self.commits[oid] = {"files": dict(files), "message": message}
        self.branches[branch] = oid
        return oid

    def find(self, revision):
        oid = self.branches.get(revision, revision)
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def files(self, revision="main"):
        return self.commits[self.find(revision)]["files"]


class StandIn(ThreadingHTTPServer):
    """The server, and what lies on it: `repositories`, by name; `asked`, every request's method and path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.large, self.asked = {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.storage = f"http://localhost:{self.server_port}/lfs"  # another host, as the Hub's is
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def upload(self, name, folder, branch="main"):
        """Put a folder there as `hf upload` does; the commit's hash."""
        repository = self.repositories.setdefault(name, Repository())
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return repository.commit(files, f"upload of {len(repository.commits)}", branch)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body=b"", status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def serve(self):
        self.server.asked.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        given = self.rfile.read(length)
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            trusted = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if self.command == "POST" and not trusted:
                raise Refusal(401, "Unauthorized", "Invalid username or password.")
            self.route(parts, parse_qs(url.query), given)
        except Refusal as refusal:
            self.answer(b"", refusal.status, X_Error_Code=refusal.code, X_Error_Message=str(refusal))

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def route(self, parts, query, given):
        match (self.command, parts):
            case ("POST", ["api", "repos", "create"]):
                self.create(json.loads(given))
            case ("POST", ["api", "validate-yaml"]):
                self.answer({"errors": [], "warnings": []})
            case (_, ["api", "models", owner, name, *rest]):
                self.api(self.repository(f"{owner}/{name}"), f"{owner}/{name}", rest, query, given)
            case ("POST", [owner, name, "info", "lfs", "objects", "batch"]):
                self.repository(f"{owner}/{name.removesuffix('.git')}")
                self.batch(json.loads(given))
            case ("PUT", ["lfs", oid]):
                if hashlib.sha256(given).hexdigest() != oid:
                    raise Refusal(400, "BadDigest")
                self.server.large[oid] = given
                self.answer()
            case ("GET" | "HEAD", ["lfs", oid]):
                self.answer(self.server.large[oid], ETag=f'"{oid}"')
            case ("GET" | "HEAD", [owner, name, "resolve", revision, *path]):
                self.resolve(self.repository(f"{owner}/{name}"), revision, "/".join(path))
            case _:
                raise Refusal(404, "RepoNotFound", self.path)

    def repository(self, name):
        if name not in self.server.repositories:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        return self.server.repositories[name]

    def create(self, given):
        name = f"{given.get('organization') or USER}/{given['name']}"
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, Repository())
        self.answer({"url": f"{self.server.url}/{name}", "name": name}, status)

    def api(self, repository, name, rest, query, given):
        match rest:
            case []:
                self.describe(repository, name, "main")
            case ["revision", revision]:
                self.describe(repository, name, revision)
            case ["tree", revision, *path]:
                self.tree(repository.files(revision), "/".join(path), "recursive" in query)
            case ["branch", branch]:
                if branch in repository.branches:
                    raise Refusal(409, "BranchExists")
                repository.branches[branch] = repository.find("main")
                self.answer({})
            case ["preupload", revision]:
                held = repository.files(revision)
                files = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                        "oid": identity(file["path"], held[file["path"]]) if file["path"] in held else None,
                    }
                    for file in json.loads(given)["files"]
                ]
                self.answer({"files": files})
            case ["commit", branch]:
                self.commit(repository, name, branch, [json.loads(line) for line in given.splitlines()])
            case _:
                raise Refusal(404, "EntryNotFound", self.path)

    def describe(self, repository, name, revision):
        files = repository.files(revision)
        metadata = {}
        if (card := files.get("README.md", b"").decode()).startswith("---"):
            metadata = yaml.safe_load(card.split("---")[1])
        self.answer(
            {
                "id": name,
                "sha": repository.find(revision),
                "siblings": [{"rfilename": path} for path in sorted(files)],
                "tags": metadata.get("tags", []),
                "pipeline_tag": metadata.get("pipeline_tag"),
                "library_name": metadata.get("library_name"),
                "cardData": metadata,
            }
        )

    def tree(self, files, folder, recursive):
        start = f"{folder}/" if folder else ""
        found = {path: data for path, data in files.items() if path.startswith(start)}
        if folder and not found:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        self.answer(
            [
                {"type": "file", "path": path, "size": len(data), "oid": identity(path, data)}
                for path, data in found.items()
                if recursive or "/" not in path[len(start) :]
            ]
        )

    def batch(self, given):
        objects = []
        for wanted in given["objects"]:
            actions = {"upload": {"href": f"{self.server.storage}/{wanted['oid']}"}}
            there = wanted["oid"] in self.server.large
            objects.append(wanted if there else wanted | {"actions": actions})
        self.answer({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def commit(self, repository, name, branch, lines):
        files = dict(repository.files(branch))
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    message = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = repository.commit(files, message, branch)
        self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def resolve(self, repository, revision, path):
        oid = repository.find(revision)
        files = repository.files(revision)
        if path not in files:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist on {revision}")
        data, same = files[path], {"X_Repo_Commit": oid}
        if not path.endswith(LARGE):
            self.answer(data, ETag=f'"{identity(path, data)}"', **same)
            return
        digest = identity(path, data)
        self.server.large[digest] = data
        large = {"X_Linked_Size": str(len(data)), "X_Linked_ETag": f'"{digest}"', "ETag": '"of-the-pointer"'}
        self.answer(b"", 302, Location=f"{self.server.storage}/{digest}", **large, **same)


def identity(path, data):
    """What the Hub calls a file's version: SHA-256 of large files, git's blob hash of others."""
    if path.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
