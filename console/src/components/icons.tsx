/** Small drawings, decorative: what they say is always said in words as well. */

import type { ReactNode } from "react";

function Icon({ children, className = "" }: { children: ReactNode; className?: string }): ReactNode {
  return (
    <svg className={`icon ${className}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

export function CheckIcon(): ReactNode {
  return (
    <Icon>
      <path d="m3.5 8.5 3 3 6-7" />
    </Icon>
  );
}

export function CrossIcon(): ReactNode {
  return (
    <Icon>
      <path d="m4.5 4.5 7 7m0-7-7 7" />
    </Icon>
  );
}

export function MinusIcon(): ReactNode {
  return (
    <Icon>
      <path d="M4 8h8" />
    </Icon>
  );
}

export function SpinnerIcon(): ReactNode {
  return (
    <Icon className="spinner">
      <path d="M8 2.5a5.5 5.5 0 1 1-5.5 5.5" />
    </Icon>
  );
}

export function ChevronIcon(): ReactNode {
  return (
    <Icon className="chevron">
      <path d="m6 3.5 4.5 4.5-4.5 4.5" />
    </Icon>
  );
}

export function BackIcon(): ReactNode {
  return (
    <Icon>
      <path d="M13 8H3.5m4-4-4 4 4 4" />
    </Icon>
  );
}

export function RepeatIcon(): ReactNode {
  return (
    <Icon>
      <path d="M13 8a5 5 0 1 1-1.5-3.6M13 2.5v3h-3" />
    </Icon>
  );
}

export function CopyIcon(): ReactNode {
  return (
    <Icon>
      <path d="M6 5.5h7v7.5H6zM3 10.5V3h7" />
    </Icon>
  );
}

export function ToolIcon(): ReactNode {
  return (
    <Icon>
      <path d="m4 5 3 3-3 3m5 0h4" />
    </Icon>
  );
}

export function PlusIcon(): ReactNode {
  return (
    <Icon>
      <path d="M8 3.5v9M3.5 8h9" />
    </Icon>
  );
}

export function PersonIcon(): ReactNode {
  return (
    <Icon>
      <circle cx="8" cy="5.2" r="2.4" />
      <path d="M3.2 13.2c.5-2.4 2.4-3.7 4.8-3.7s4.3 1.3 4.8 3.7" />
    </Icon>
  );
}

export function UndoIcon(): ReactNode {
  return (
    <Icon>
      <path d="M5.5 3 2.8 5.8l2.7 2.7M3 5.8h6.2a3.6 3.6 0 0 1 0 7.2H6" />
    </Icon>
  );
}

export function FileIcon(): ReactNode {
  return (
    <Icon>
      <path d="M4 2.5h5l3 3v8H4zM9 2.5v3h3" />
    </Icon>
  );
}

export function DownloadIcon(): ReactNode {
  return (
    <Icon>
      <path d="M8 2.5v7.5m-3-3 3 3 3-3M3 13.2h10" />
    </Icon>
  );
}

export function ClockIcon(): ReactNode {
  return (
    <Icon>
      <circle cx="8" cy="8" r="5.5" />
      <path d="M8 5v3.2l2 1.3" />
    </Icon>
  );
}

export function BranchIcon(): ReactNode {
  return (
    <Icon>
      <circle cx="4.5" cy="3.8" r="1.5" />
      <circle cx="4.5" cy="12.2" r="1.5" />
      <circle cx="11.5" cy="5.8" r="1.5" />
      <path d="M4.5 5.3v5.4m0-1.2c0-2 7-.6 7-2.2" />
    </Icon>
  );
}

export function LogoIcon(): ReactNode {
  return (
    <svg className="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path
        className="logo-mark"
        d="M5 9.2c0-1.7 1.8-2.7 3.2-1.8l9.6 6.8c1.3.9 1.3 2.7 0 3.6l-9.6 6.8C6.8 25.5 5 24.5 5 22.8Z"
      />
      <path className="logo-wave" d="M21.8 10.6a9 9 0 0 1 0 10.8" />
      <path className="logo-wave" d="M25.6 7a14.5 14.5 0 0 1 0 18" />
    </svg>
  );
}
