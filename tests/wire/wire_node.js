// An upstream on Node's http: it answers with what it read, in the head of its answer.
// Knows: Node's own readers of URLs, forms and JSON. Must not know: what was sent, what is right.
"use strict";
const http = require("http");

function pairs(read) {
  try {
    return [...read()];
  } catch {
    return null;
  }
}

function decoded(read) {
  try {
    return read();
  } catch {
    return null;
  }
}

function reading(request, body) {
  const text = body.toString("utf8");
  const url = decoded(() => new URL(request.url, "http://upstream"));
  const headers = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    headers.push([request.rawHeaders[at], request.rawHeaders[at + 1]]);
  }
  return {
    method: request.method,
    target: request.url,
    headers,
    body: body.toString("base64"),
    path: url && decoded(() => decodeURIComponent(url.pathname)),
    query: url && pairs(() => url.searchParams),
    form: pairs(() => new URLSearchParams(text)),
    json: decoded(() => JSON.stringify(JSON.parse(text))),
  };
}

const server = http.createServer({ maxHeaderSize: 1 << 18 }, (request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const told = JSON.stringify(reading(request, Buffer.concat(pieces)));
    response.writeHead(200, {
      "X-Wire-Reading": Buffer.from(told, "utf8").toString("base64"),
      "Content-Length": "0",
    });
    response.end();
  });
});
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[2]), "127.0.0.1");
