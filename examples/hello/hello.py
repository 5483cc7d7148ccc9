"""The demo: a FastCGI application that takes its listening socket from file descriptor 0 and says which process answers."""

import os

from flup.server.fcgi import WSGIServer


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Hello from {environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}\nProcessId: {os.getpid()}\n".encode()]


if __name__ == "__main__":
    # All processes wait for one connection, one gets it. flup goes on to wait if accept(2) says that it is gone; on a blocking socket the others hang in
    # accept(2), where Python does not heed SIGTERM.
    os.set_blocking(0, False)
    # No bindAddress: flup then serves the socket that the supervisor passes on file descriptor 0.
    WSGIServer(application).run()
