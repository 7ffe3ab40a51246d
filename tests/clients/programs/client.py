"""Python's clients: `client.py boto3 allowed|denied`, `client.py calls all` (what test_sdks.py wants of every SDK) or
`client.py requests|httpx|aiohttp URL`, each as its users write it.

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


def calls(_):
    import io

    import boto3 as sdk
    import requests as library
    from botocore.config import Config

    place, parts = {"Bucket": "trial-data", "Key": "sdk/a b+c"}, {"Bucket": "trial-data", "Key": "sdk/parts"}
    files = sdk.client("s3")
    files.put_object(**place, Body=b"some bytes")
    assert files.get_object(**place)["Body"].read() == b"some bytes"
    upload = files.create_multipart_upload(**parts)["UploadId"]
    etag = files.upload_part(**parts, UploadId=upload, PartNumber=1, Body=b"one part")["ETag"]
    files.complete_multipart_upload(**parts, UploadId=upload, MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]})
    files.put_object(Bucket="trial-data", Key="sdk/stream", Body=io.BytesIO(b"by stream"))
    presigner = sdk.client("s3", config=Config(signature_version="s3v4"))
    for method, operation in (("PUT", "put_object"), ("GET", "get_object")):
        url = presigner.generate_presigned_url(operation, {"Bucket": "trial-data", "Key": "sdk/presigned"})
        library.request(method, url, data=b"by url" if method == "PUT" else None).raise_for_status()
    tables, key = sdk.client("dynamodb"), {"id": {"S": "sdk"}}
    tables.put_item(TableName="orders", Item=key)
    tables.get_item(TableName="orders", Key=key)
    queues = sdk.client("sqs")
    queues.send_message(QueueUrl=queues.get_queue_url(QueueName="orders")["QueueUrl"], MessageBody="one")
    sdk.client("lambda").invoke(FunctionName="arn:aws:lambda:us-east-1:123456789012:function:trial", Payload=b"{}")
    models = sdk.client("bedrock-runtime")
    models.invoke_model(modelId="anthropic.claude-3-haiku-20240307-v1:0", body=b"{}", contentType="application/json")


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
    {"boto3": boto3, "calls": calls, "requests": requests, "httpx": httpx, "aiohttp": aiohttp}[sys.argv[1]](sys.argv[2])
except Exception as error:
    print("error:", error)
    sys.exit(1)
print("went")
