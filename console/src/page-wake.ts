/** Tells when the page is seen again or the network is back. */
export function onPageWake(wake: () => void): () => void {
  const whenVisible = (): void => {
    if (document.visibilityState === "visible") wake();
  };
  document.addEventListener("visibilitychange", whenVisible);
  addEventListener("online", wake);
  addEventListener("pageshow", wake);
  return () => {
    document.removeEventListener("visibilitychange", whenVisible);
    removeEventListener("online", wake);
    removeEventListener("pageshow", wake);
  };
}
