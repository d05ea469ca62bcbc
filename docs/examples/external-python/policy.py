#!/usr/bin/env python3
"""A dispatch policy in Python that an operator writes.

Dispatchers ask it for the server of each request of a pool that has

    external: {address: "127.0.0.1:7071", headers: [X-Canary]}

Requests with "X-Canary: yes" go to the servers whose names end in "-canary"
while there are any; all others go to the remaining server with the least load
for its weight. POST is answered with 503 while --read-only is given.

It needs python3-grpcio and python3-protobuf, and the messages of the API, made
once by protoc (Debian: protobuf-compiler):

    protoc -I proto --python_out=DIR shunt/v1/policy.proto shunt/v1/external.proto
    PYTHONPATH=DIR python3 policy.py --listen 127.0.0.1:7071
"""

import argparse
import signal
import sys
from concurrent import futures

import grpc

from shunt.v1 import external_pb2


class Policy:
    """Chooses servers."""

    def __init__(self, read_only):
        self.read_only = read_only

    def choose(self, request, context):
        """Names the server of a request.

        Dispatchers wait for it no longer than the pool's deadline, 20 ms unless
        it says otherwise; then the pool's own algorithm chooses.
        """
        answer = external_pb2.ChooseResponse()
        if self.read_only and request.method == "POST":
            answer.reject.status = 503
            answer.reject.reason = "read only for now"
            return answer
        canary = any(h.name.lower() == "x-canary" and h.value == "yes" for h in request.headers)
        fit = [c for c in request.candidates if c.server.endswith("-canary") == canary]
        fit = [c for c in fit if c.weight > 0]
        if fit:
            answer.server = min(fit, key=lambda c: (c.load / c.weight, c.server)).server
        return answer  # empty: let the pool's algorithm choose


def serve(address, policy, workers):
    """Returns a running server. No generated stubs are needed for one method."""
    choose = grpc.unary_unary_rpc_method_handler(
        policy.choose,
        request_deserializer=external_pb2.ChooseRequest.FromString,
        response_serializer=external_pb2.ChooseResponse.SerializeToString,
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=workers))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shunt.v1.ExternalPolicyService", {"Choose": choose}),)
    )
    if server.add_insecure_port(address) == 0:
        sys.exit(f"cannot listen on {address}")
    server.start()
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:7071", help="host:port or unix:/path")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--read-only", action="store_true", help="answer POST with 503")
    args = parser.parse_args()
    server = serve(args.listen, Policy(args.read_only), args.workers)
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda *_: server.stop(grace=1))
    print("external policy is up at", args.listen, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
