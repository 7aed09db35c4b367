"""Trained models over HTTP: the interface of OpenAI for completions, charlm's own, and a page.

It needs the extra `serve`: Starlette, uvicorn and prometheus-client.
"""
