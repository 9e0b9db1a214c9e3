import { expect, it } from "vitest";
import { encodeBase64Url } from "./api-key";

it.each(["key", "sÖcret ключ", "???>>>", ""])("writes %j so that it can travel as a subprotocol and be read back", (key) => {
  const text = encodeBase64Url(key);
  expect(text).toMatch(/^[\w-]*$/);
  expect(Buffer.from(text, "base64url").toString()).toBe(key);
});
