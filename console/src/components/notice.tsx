/** Something to tell the user between the content: a problem, or that there is nothing. */

import type { ReactNode } from "react";

interface NoticeProps {
  readonly title: string;
  readonly children?: ReactNode;
  readonly tone?: "plain" | "bad" | "warn";
  /** Whether it is all that the page has to say. */
  readonly isPage?: boolean;
}

export function Notice({ title, children, tone = "plain", isPage = false }: NoticeProps): ReactNode {
  const Title = isPage ? "h1" : "p";
  return (
    <div className={`notice notice-${tone}`} role={tone === "bad" ? "alert" : undefined}>
      <Title className="notice-title">{title}</Title>
      {children}
    </div>
  );
}
