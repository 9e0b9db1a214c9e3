import type { ReactNode } from "react";
import { Link } from "../router";
import { LogoIcon } from "./icons";

export function Header(): ReactNode {
  return (
    <header className="header">
      <a className="skip-link" href="#main">
        Skip to content
      </a>
      <div className="header-row">
        <Link href="/" className="brand" aria-label="Runcast, all runs">
          <LogoIcon />
          <span>Runcast</span>
        </Link>
        <nav aria-label="Site" className="header-nav">
          <Link href="/">Runs</Link>
          <a href="/docs">API</a>
        </nav>
      </div>
    </header>
  );
}
