/** The files that a run has made: what they are, a look at images, the way to get them. */

import { type ReactNode, useEffect, useState } from "react";
import { fetchFile } from "../api";
import { readKey } from "../api-key";
import { formatBytes } from "../format";
import type { Artifact } from "../run-view";
import { useAction } from "../use-action";
import { DownloadIcon, FileIcon } from "./icons";

/** Types that a browser shows as a picture. */
const IMAGE = /^image\/(?:png|jpeg|gif|webp|avif|svg\+xml)\b/;
/** A larger picture is shown when it is asked for. */
const MAX_PREVIEW_BYTES = 10_000_000;

export function Artifacts({ artifacts }: { artifacts: readonly Artifact[] }): ReactNode {
  return (
    <ul className="artifacts">
      {artifacts.map((artifact) => (
        <ArtifactItem key={artifact.id} artifact={artifact} />
      ))}
    </ul>
  );
}

function ArtifactItem({ artifact }: { artifact: Artifact }): ReactNode {
  const { name, contentType, bytes, url } = artifact;
  const about = [contentType?.split(";")[0], bytes === null ? "" : formatBytes(bytes)].filter(Boolean).join(" · ");
  return (
    <li className="artifact" data-testid="artifact">
      {url && isPicture(artifact) ? (
        <Picture url={url} name={name} />
      ) : (
        <span className="artifact-mark">
          <FileIcon />
        </span>
      )}
      <div className="artifact-words">
        <span className="artifact-name">{name}</span>
        {about && <span className="artifact-about">{about}</span>}
      </div>
      {url && <GetButton url={url} name={name} />}
    </li>
  );
}

/** The page's policy shows no pictures of other sites. */
function isPicture({ contentType, bytes, url }: Artifact): boolean {
  return url !== null && isOurs(url) && IMAGE.test(contentType ?? "") && (bytes ?? 0) <= MAX_PREVIEW_BYTES;
}

function isOurs(url: string): boolean {
  return new URL(url, location.href).origin === location.origin;
}

function Picture({ url, name }: { url: string; name: string }): ReactNode {
  const source = useSource(url);
  const [isBroken, setBroken] = useState(false);
  if (isBroken || source === null) {
    return (
      <span className="artifact-mark">
        <FileIcon />
      </span>
    );
  }
  return <img className="artifact-picture" src={source} alt={name} loading="lazy" onError={() => setBroken(true)} />;
}

/** An image can't send a key: on a server that wants one its bytes are fetched first. */
function useSource(url: string): string | null {
  const [source, setSource] = useState(() => (readKey() === null ? url : null));
  useEffect(() => {
    if (readKey() === null) return setSource(url);
    let made: string | null = null;
    let isGone = false;
    fetchFile(url).then(
      (file) => {
        if (!isGone) setSource((made = URL.createObjectURL(file)));
      },
      () => {}, // shown as a file; getting it says why
    );
    return () => {
      isGone = true;
      if (made !== null) URL.revokeObjectURL(made);
    };
  }, [url]);
  return source;
}

function GetButton({ url, name }: { url: string; name: string }): ReactNode {
  const { act, isBusy, problem } = useAction();
  const label = `Download ${name}`;
  if (!isOurs(url) || readKey() === null) {
    return (
      <a className="button button-small" href={url} download={isOurs(url) ? name : undefined} rel="noreferrer" target="_blank" aria-label={label}>
        <DownloadIcon /> {isOurs(url) ? "Download" : "Open"}
      </a>
    );
  }
  return (
    <>
      {problem && (
        <span className="form-problem" role="alert">
          {problem}
        </span>
      )}
      <button type="button" className="button button-small" aria-label={label} disabled={isBusy} onClick={() => act(() => save(url, name))}>
        <DownloadIcon /> Download
      </button>
    </>
  );
}

async function save(url: string, name: string): Promise<void> {
  const address = URL.createObjectURL(await fetchFile(url));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
