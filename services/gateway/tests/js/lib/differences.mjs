// Where this server answers otherwise than the npm one, on purpose. A test looks its case up here by
// name; what is not listed has to be equal.

export const DIFFERENCES = {
  "a POST behind its own waiting GET": {
    reference: "applies the POST while the GET waits",
    ours: "answers the GET with a noop, then the POST",
    reason: "the answers of a connection come in order, so the GET would have to be answered first in any case",
  },
  "another protocol that is offered": {
    reference: "refuses the request with 400, as a WebSocket handshake that is wrong",
    ours: "answers it as a plain request, and the connection lives on",
    reason: "RFC 9110 §7.8: a server may ignore Upgrade; clients that try HTTP/2 in clear text go on with HTTP/1.1",
  },
  "an upgrade in HTTP/1.0": {
    reference: "switches protocols",
    ours: "answers it as a plain request",
    reason: "RFC 9110 §7.8 has it ignored: HTTP/1.0 knows no Upgrade, and a proxy that speaks it passes on what it does not understand",
  },
  "the upgrade of an unsupported protocol version": {
    reference: "answers 101, then writes an HTTP error into the WebSocket stream",
    ours: "answers 400 before any upgrade, as for every other refused upgrade",
    reason: "bytes that are not frames make a client report a broken connection, not the refusal",
  },
  "a POST over the limit": {
    reference: "answers 413 and keeps the session, without the packets of that body",
    ours: "answers 413 and ends the session",
    reason: "its packets are lost, so nothing that follows can be trusted; the client gives the session up as well",
  },
  "a close packet on a WebSocket": {
    reference: "ignores the packet",
    ours: "closes the connection",
    reason: "the protocol defines it as the way to close a session",
  },
  "an event behind a disconnect in one payload": {
    reference: "drops the event, or closes the connection when the event comes in a frame of its own",
    ours: "closes the connection in both cases",
    reason: "the outcome must not depend on how packets were batched",
  },
  "a space in an acknowledgement id": {
    reference: "counts it as a digit",
    ours: "closes the connection",
    reason: "only 0-9 are digits in the protocol; the reference inherits Number(\" \") === 0",
  },
  "an attachment count that is no plain number": {
    reference: "accepts what Number() accepts: 1e0, 0x1, +1, a leading space",
    ours: "closes the connection",
    reason: "the protocol says digits",
  },
  "a placeholder number that is no plain integer": {
    reference: "reads 0e0 as 0, and hands undefined to the handler for 0.5",
    ours: "closes the connection",
    reason: "every encoder writes digits, and 0.5 names no attachment",
  },
  "an acknowledgement id beyond 2^53": {
    reference: "answers with the nearest number it can represent",
    ours: "answers with the same digits",
    reason: "the client could not match any other answer",
  },
  "a POST that is not UTF-8": {
    reference: "reads U+FFFD in place of the bytes that are none",
    ours: "ends the session",
    reason: "the text is not what the client meant, and on a WebSocket it ends the session on both",
  },
  "attachments that are together more than may wait for a client": {
    reference: "holds ten times the limit of a message",
    ours: "closes the connection",
    reason: "what one connection makes the server hold is bounded, and such an event is more than most clients could be sent",
  },
};

/** Whether the case called `name` is answered otherwise by the server under test. */
export function differs(target, name) {
  if (!(name in DIFFERENCES)) throw new Error(`no such difference: ${name}`);
  return !target.isReference;
}
