import type { IncomingMessage } from "node:http";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const gateway = process.env.RUNCAST_URL ?? "http://127.0.0.1:3000";

/** `/runs/{id}` is a page for a browser's navigation and JSON for everyone else. */
function servePage(request: IncomingMessage): string | undefined {
  return request.headers.accept?.includes("text/html") ? "/index.html" : undefined;
}

export default defineConfig({
  plugins: [react()],
  server: {
    proxy: {
      "/runs": { target: gateway, bypass: servePage },
      "/runners": { target: gateway, bypass: servePage },
      "/ws": { target: gateway, ws: true },
      "/openapi.json": { target: gateway },
    },
  },
  build: {
    // The policy `default-src 'self'` refuses data: addresses, so nothing is inlined.
    assetsInlineLimit: 0,
    target: "es2022",
  },
});
