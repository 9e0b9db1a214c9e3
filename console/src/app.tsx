/** The frame of every page. */

import { type ReactNode, useEffect, useRef } from "react";
import { Header } from "./components/header";
import { KeyDialog } from "./components/key-dialog";
import { Notice } from "./components/notice";
import { HomePage } from "./pages/home";
import { RunPage } from "./pages/run";
import { Link, readRoute, usePath } from "./router";

export function App(): ReactNode {
  const path = usePath();
  useFocusOnNavigation(path);
  return (
    <>
      <Header />
      <Page path={path} />
      <KeyDialog />
    </>
  );
}

function Page({ path }: { path: string }): ReactNode {
  const route = readRoute(path);
  switch (route.page) {
    case "home":
      return <HomePage />;
    case "run":
      return <RunPage key={route.runId} runId={route.runId} />;
    case "missing":
      return <MissingPage />;
  }
}

function MissingPage(): ReactNode {
  return (
    <main id="main" className="page" tabIndex={-1}>
      <Notice title="There is no such page" isPage>
        <Link href="/" className="button">
          All runs
        </Link>
      </Notice>
    </main>
  );
}

/** After a change of page the keyboard and the screen reader start at its content, not at the link that is gone. */
function useFocusOnNavigation(path: string): void {
  const shown = useRef(path);
  useEffect(() => {
    if (shown.current === path) return;
    shown.current = path;
    const target = document.querySelector<HTMLElement>("#main textarea, #main");
    target?.focus({ preventScroll: true });
  }, [path]);
}
