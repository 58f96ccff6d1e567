// The client of @grpc/grpc-js, as clients/README.md describes it.
"use strict";

const fs = require("fs");
const readline = require("readline");
const grpc = require("@grpc/grpc-js");

const [address, compression] = process.argv.slice(2);
// Files of the CA to trust, of a key, and of the certificate of that key.
const files = (process.env.TLS_FILES || "").split(",").filter(Boolean);
const [ca, key, certificate] = files.map((name) => fs.readFileSync(name));
const credentials = ca ? grpc.credentials.createSsl(ca, key, certificate) : grpc.credentials.createInsecure();
const client = new grpc.Client(address, credentials, {
  "grpc.max_receive_message_length": -1,
  "grpc.default_compression_algorithm": compression === "gzip" ? 2 : 0,
});
const calls = new Map();
const asItIs = (bytes) => bytes;

function say(...words) {
  process.stdout.write(words.join(" ") + "\n");
}

function sayStatus(number, status) {
  say("status", number, status.code, Buffer.from(status.details || "").toString("hex") || "-");
}

function decoded(text) {
  const metadata = new grpc.Metadata();
  for (const pair of text === "-" ? [] : text.split(",")) {
    const [name, hex] = pair.split("=");
    const value = Buffer.from(hex, "hex");
    metadata.add(name, name.endsWith("-bin") ? value : value.toString());
  }
  return metadata;
}

function begin(number, kind, path, seconds, metadata) {
  const options = seconds === "-" ? {} : { deadline: Date.now() + 1000 * Number(seconds) };
  if (kind === "unary") {
    return {
      send(message) {
        const take = (error, reply) => reply && say("message", number, reply.toString("hex") || "-");
        this.call = client.makeUnaryRequest(path, asItIs, asItIs, message, metadata, options, take);
        this.call.on("status", (status) => setImmediate(sayStatus, number, status));
      },
      end() {},
      cancel() {
        this.call.cancel();
      },
    };
  }
  const call = client.makeBidiStreamRequest(path, asItIs, asItIs, metadata, options);
  call.on("data", (message) => say("message", number, message.toString("hex") || "-"));
  call.on("error", () => {}); // the status says it
  call.on("status", (status) => sayStatus(number, status));
  return {
    send: (message) => call.write(message),
    end: () => call.end(),
    cancel: () => call.cancel(),
  };
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, number, ...rest] = line.split(" ");
  if (verb === "call") {
    const [kind, path, seconds, metadata] = rest;
    calls.set(number, begin(number, kind, path, seconds, decoded(metadata)));
  } else if (verb === "send") {
    calls.get(number).send(Buffer.from(rest[0].replace("-", ""), "hex"));
  } else {
    calls.get(number)[verb]();
  }
}).on("close", () => process.exit(0));
