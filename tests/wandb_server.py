"""A stand-in for W&B's server on the loopback address, which keeps what the real client sends: runs, their rows, summaries, ends."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "me"


class Server(ThreadingHTTPServer):
    """`runs` by id: name, group, tags, config, project, history, summary, exit_code. `answer` may be set to `401`, `500` or `silence`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.sweep = ""  # the YAML of a W&B Sweep
        self.agents: list[dict[str, Any]] = []  # commands for its agent, one a heartbeat
        self.operations: set[str] = set()
        self.answer = ""
        self.over = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From here on connections are refused."""
        self.over.set()
        self.shutdown()
        self.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}",
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "no_proxy": "127.0.0.1",
        }

    def run_with(self, name: str) -> dict[str, Any]:
        return self.runs.setdefault(name, {"id": name, "history": {}, "summary": {}, "config": {}, "exit_code": None})


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.server.answer == "silence":
            self.server.over.wait()
            return
        if self.server.answer in ("401", "500"):
            self._send({"error": "broken"}, int(self.server.answer))
        elif self.path == "/graphql":
            with self.server.lock:
                self._send(self._graphql(json.loads(body)))
        elif match := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", self.path):
            with self.server.lock:
                self._stream(self.server.run_with(match[2]), json.loads(body))
            self._send({})
        else:
            self._send({})

    do_GET = do_PUT = do_POST

    def _graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]  # type: ignore[index]
        self.server.operations.add(operation)
        answer = getattr(self, f"_{operation}", None)
        if answer is None:
            return {"errors": [{"message": f"no {operation} here"}]}
        return {"data": answer(request.get("variables") or {})}

    def _Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.server.runs.get(variables["name"])
        bucket = run and {
            "name": run["id"],
            "historyLineCount": len(run["history"]),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in list(run["history"].values())[-1:]]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(run["summary"]),
            "config": json.dumps(run["config"]),
            "wandbConfig": "{}",
            "tags": run["tags"],
        }
        return {"model": {"id": "1", "name": variables["project"], "entity": {"id": "1", "name": ENTITY}, "bucket": bucket}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or variables.get("id")
        is_new = name not in self.server.runs
        run = self.server.run_with(name)
        run |= {"project": variables.get("project"), "entity": variables.get("entity")} if is_new else {}
        for kept, given in (("name", "displayName"), ("group", "groupName"), ("tags", "tags"), ("sweep", "sweep"), ("job_type", "jobType")):
            run[kept] = variables.get(given) or run.get(kept)
        run["config"] |= {key: value.get("value") for key, value in json.loads(variables.get("config") or "{}").items()}
        project = {"id": "1", "name": run["project"] or "resnet", "entity": {"id": "1", "name": ENTITY}}
        bucket = {"id": name, "name": name, "displayName": run["name"], "config": "{}", "sweepName": run["sweep"], "project": project}
        return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run["history"])}, "inserted": is_new}}

    def _SweepWithRuns(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"sweep": {"id": "1", "name": variables["sweep"], "config": self.server.sweep, "runs": {"edges": []}}}}

    def _CreateAgent(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        ended = [run["exit_code"] is not None for run in self.server.runs.values()]
        commands = [self.server.agents.pop(0)] if self.server.agents else [{"type": "exit"}] if ended and all(ended) else []
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _stream(self, run: dict[str, Any], body: dict[str, Any]) -> None:
        files = body.get("files") or {}
        history, summary = (files.get(f"wandb-{name}", {}) for name in ("history.jsonl", "summary.json"))
        for line in map(json.loads, history.get("content", [])):
            run["history"].setdefault(line["_step"], []).append(line)
        for line in map(json.loads, summary.get("content", [])):
            run["summary"] |= line
        if body.get("complete"):
            run["exit_code"] = body.get("exitcode")

    def _send(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...
