"""Python's clients: `client.py boto3 allowed|denied` or `client.py requests|httpx|aiohttp URL`, each as its users write it.

Says what it got, or its own error and exits with 1.
"""

import asyncio
import sys


def boto3(action):
    import boto3 as sdk

    client = sdk.client("dynamodb")
    if action == "denied":
        client.delete_table(TableName="others")
    else:
        client.list_tables()


def requests(url):
    import requests as library

    answer = library.get(url)
    show(answer.status_code, answer.text)
    answer.raise_for_status()


def httpx(url):
    import httpx as library

    answer = library.get(url)
    show(answer.status_code, answer.text)
    answer.raise_for_status()


def aiohttp(url):
    import aiohttp as library

    async def get():
        async with library.ClientSession(trust_env=True) as session, session.get(url) as answer:
            show(answer.status, await answer.text())
            answer.raise_for_status()

    asyncio.run(get())


def show(status, body):
    if status != 200:
        print("body:", body)


try:
    {"boto3": boto3, "requests": requests, "httpx": httpx, "aiohttp": aiohttp}[sys.argv[1]](sys.argv[2])
except Exception as error:
    print("error:", error)
    sys.exit(1)
print("went")
