// Unpacks the packed Chromium and its libraries into TMPDIR and prints where they are.
// The package puts its own flags in charge of a serverless sandbox; the tests bring theirs, so only the files are used.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import chromium, { inflate } from "@sparticuz/chromium";

const packed = join(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")), "..", "bin");
const executable = await chromium.executablePath();
await inflate(join(packed, "al2023.tar.br")); // NSS and others, for machines without a desktop's libraries
console.log(JSON.stringify({ executable }));
