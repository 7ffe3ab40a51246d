// Node's clients: `client.js sdk allowed|denied`, `client.js calls all` (what test_sdks.py wants of every SDK),
// `client.js events good|forged` (a stream of signed events, for test_events.py) or `client.js fetch|axios|older-axios URL`. Says what it got, or its own error and exits with 1.
const clients = {
  async sdk(action) {
    const { DynamoDBClient, DeleteTableCommand, ListTablesCommand } = require('@aws-sdk/client-dynamodb');
    const command = action === 'denied' ? new DeleteTableCommand({ TableName: 'others' }) : new ListTablesCommand({});
    await new DynamoDBClient({}).send(command);
  },
  async calls() {
    const s3 = require('@aws-sdk/client-s3'), { getSignedUrl } = require('@aws-sdk/s3-request-presigner');
    const dynamodb = require('@aws-sdk/client-dynamodb'), { Readable } = require('node:stream');
    const { SQSClient, GetQueueUrlCommand, SendMessageCommand } = require('@aws-sdk/client-sqs');
    const { LambdaClient, InvokeCommand } = require('@aws-sdk/client-lambda');
    const { BedrockRuntimeClient, InvokeModelCommand } = require('@aws-sdk/client-bedrock-runtime');
    const { NodeHttpHandler } = require('@smithy/node-http-handler');
    const Bucket = 'trial-data', files = new s3.S3Client({}), tables = new dynamodb.DynamoDBClient({}), queues = new SQSClient({});
    await files.send(new s3.PutObjectCommand({ Bucket, Key: 'sdk/a b+c', Body: 'some bytes' }));
    const got = await files.send(new s3.GetObjectCommand({ Bucket, Key: 'sdk/a b+c' }));
    if (await got.Body.transformToString() !== 'some bytes') throw new Error('other bytes');
    const { UploadId } = await files.send(new s3.CreateMultipartUploadCommand({ Bucket, Key: 'sdk/parts' }));
    const part = { Bucket, Key: 'sdk/parts', UploadId };
    const { ETag } = await files.send(new s3.UploadPartCommand({ ...part, PartNumber: 1, Body: 'one part' }));
    await files.send(new s3.CompleteMultipartUploadCommand({ ...part, MultipartUpload: { Parts: [{ ETag, PartNumber: 1 }] } }));
    await files.send(new s3.PutObjectCommand({ Bucket, Key: 'sdk/stream', Body: Readable.from(['by ', 'stream']), ContentLength: 9 }));
    for (const [method, Command] of [['PUT', s3.PutObjectCommand], ['GET', s3.GetObjectCommand]]) {
      const url = await getSignedUrl(files, new Command({ Bucket, Key: 'sdk/presigned' }));
      const answer = await fetch(url, { method, body: method === 'PUT' ? 'by url' : undefined });
      if (!answer.ok) throw new Error(`presigned ${method}: ${answer.status}`);
    }
    const Key = { id: { S: 'sdk' } };
    await tables.send(new dynamodb.PutItemCommand({ TableName: 'orders', Item: { ...Key, n: { N: '7' } } }));
    await tables.send(new dynamodb.GetItemCommand({ TableName: 'orders', Key }));
    const { QueueUrl } = await queues.send(new GetQueueUrlCommand({ QueueName: 'orders' }));
    await queues.send(new SendMessageCommand({ QueueUrl, MessageBody: 'one' }));
    const FunctionName = 'arn:aws:lambda:us-east-1:123456789012:function:trial';
    await new LambdaClient({}).send(new InvokeCommand({ FunctionName, Payload: '{}' }));
    const modelId = 'anthropic.claude-3-haiku-20240307-v1:0';
    const requestHandler = new NodeHttpHandler(); // its default speaks HTTP/2 alone, past every proxy
    await new BedrockRuntimeClient({ requestHandler }).send(new InvokeModelCommand({ modelId, body: '{}', contentType: 'application/json' }));
  },
  async events(how) {
    const { BedrockRuntimeClient, InvokeModelWithBidirectionalStreamCommand } = require('@aws-sdk/client-bedrock-runtime');
    const { crc32 } = require('node:zlib'), { Transform } = require('node:stream');
    const { NodeHttpHandler } = require('@smithy/node-http-handler');
    const client = new BedrockRuntimeClient({ requestHandler: new NodeHttpHandler() }), words = ['first', 'second', 'third'], awaited = [...words];
    if (how === 'forged') {
      // Sends what the SDK signed, and of its second event one bit otherwise: within the payload, and with the checksum that it then has.
      const handler = client.config.requestHandler, handle = handler.handle.bind(handler);
      let count = 0;
      handler.handle = (request, options) => {
        request.body = request.body.pipe(new Transform({ objectMode: true, transform(event, _, done) {
          event = Buffer.from(event);
          if (++count === 2) {
            event[event.length - 24] ^= 1;
            event.writeUInt32BE(crc32(event.subarray(0, -4)), event.length - 4);
          }
          done(null, event);
        } }));
        return handle(request, options);
      };
    }
    let heard = () => {};
    const body = (async function* () {
      for (const word of words) {
        const answered = new Promise((resolve) => { heard = resolve; });
        yield { chunk: { bytes: Buffer.from(word) } };
        await answered;
      }
    })();
    const answer = await client.send(new InvokeModelWithBidirectionalStreamCommand({ modelId: 'amazon.nova-sonic-v1:0', body }));
    for await (const event of answer.body) {
      const word = Buffer.from(event.chunk.bytes).toString();
      if (word !== awaited.shift()) throw new Error('other words: ' + word);
      console.log('heard ' + word);
      heard();
    }
    if (awaited.length) throw new Error('the stream broke off');
    client.destroy();
  },
  async fetch(url) {
    const answer = await fetch(url);
    if (answer.ok) return;
    console.log('body: ' + await answer.text());
    throw new Error(`${answer.status} ${answer.statusText}`);
  },
  async axios(url, library = 'axios') {
    try {
      await require(library).get(url);
    } catch (error) {
      if (error.response) console.log('body: ' + JSON.stringify(error.response.data));
      throw error;
    }
  },
  'older-axios': (url) => clients.axios(url, 'older-axios'),
};
const [client, what] = process.argv.slice(2);
clients[client](what).then(() => console.log('went'), (error) => {
  console.log('error: ' + error + (error.cause ? ': ' + error.cause : ''));
  process.exitCode = 1;
});
