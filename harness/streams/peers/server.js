// Node's http server as it comes: keep-alive for 5 seconds. A POST is echoed; an upgrade becomes a WebSocket that echoes.
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');

const [root, ...addresses] = process.argv.slice(2);

const answer = (request, response) => {
  if (request.method === 'POST') {
    request.pipe(response);
    return;
  }
  const file = new URL(request.url, 'http://x').pathname;
  fs.readFile(path.join(root, file === '/' ? 'index.html' : file), (error, data) => {
    response.writeHead(error ? 404 : 200);
    response.end(data);
  });
};

const upgrade = (request, socket) => {
  const accept = crypto.createHash('sha1')
    .update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`);
  socket.on('data', (frame) => {
    // One short masked text frame; answered with the same, unmasked (RFC 6455 section 5).
    const length = frame[1] & 0x7f;
    const text = Buffer.alloc(length);
    for (let i = 0; i < length; i += 1) text[i] = frame[6 + i] ^ frame[2 + (i % 4)];
    socket.end(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
  socket.on('error', () => {});
};

let listening = 0;
for (const address of addresses) {
  const at = address.lastIndexOf(':');
  const server = http.createServer(answer).on('upgrade', upgrade);
  server.listen(Number(address.slice(at + 1)), address.slice(0, at).replace(/[[\]]/g, ''), () => {
    listening += 1;
    if (listening === addresses.length) console.log('ready');
  });
}
