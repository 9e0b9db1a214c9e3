/** The text that a run streams. */

import { memo, type ReactNode } from "react";
import type { MessageView } from "../run-view";

export function RunText({ messages }: { messages: readonly MessageView[] }): ReactNode {
  return (
    <div className="run-text" data-testid="run-text">
      {messages.map((message) => (
        <Message key={message.id} message={message} />
      ))}
    </div>
  );
}

const Message = memo(function Message({ message }: { message: MessageView }): ReactNode {
  return <p className={message.isComplete ? "message" : "message is-streaming"}>{message.text}</p>;
});
