// An upstream on Node's http: it answers with what it read, in the head of its answer.
// Knows: Node's own readers of URLs, forms and JSON. Must not know: what was sent, what is right.
"use strict";
const crypto = require("crypto");
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

// The reader of forms that fetch has (WHATWG); of a file its name, size and digest.
async function formData(type, body) {
  try {
    const told = [];
    const found = await new Response(body, { headers: { "content-type": type } }).formData();
    for (const [name, value] of found) {
      if (typeof value === "string") {
        told.push([name, value]);
      } else {
        const content = Buffer.from(await value.arrayBuffer());
        const digest = crypto.createHash("sha256").update(content).digest("hex");
        told.push([name, `file:${value.name}:${content.length}:${digest}`]);
      }
    }
    return told;
  } catch {
    return null;
  }
}

async function reading(request, body) {
  const type = request.headers["content-type"] || "";
  const isFormData = type.toLowerCase().startsWith("multipart/form-data");
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
    form: isFormData
      ? await formData(type, body)
      : pairs(() => new URLSearchParams(text)),
    json: decoded(() => JSON.stringify(JSON.parse(text))),
  };
}

const server = http.createServer({ maxHeaderSize: 1 << 18 }, (request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", async () => {
    const told = JSON.stringify(await reading(request, Buffer.concat(pieces)));
    response.writeHead(200, {
      "X-Wire-Reading": Buffer.from(told, "utf8").toString("base64"),
      "Content-Length": "0",
    });
    response.end();
  });
});
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[2]), "127.0.0.1");
