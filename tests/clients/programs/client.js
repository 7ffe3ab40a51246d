// Node's clients: `client.js sdk allowed|denied` or `client.js fetch|axios|older-axios URL`. Says what it got, or its own
// error and exits with 1.
const clients = {
  async sdk(action) {
    const { DynamoDBClient, DeleteTableCommand, ListTablesCommand } = require('@aws-sdk/client-dynamodb');
    const command = action === 'denied' ? new DeleteTableCommand({ TableName: 'others' }) : new ListTablesCommand({});
    await new DynamoDBClient({}).send(command);
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
