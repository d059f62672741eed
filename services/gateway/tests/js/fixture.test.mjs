// The handler API for Rust users, seen by socket.io-client. FIXTURE_URL is the address of a small server
// that is written with that API; what it has to do is said here, and for the npm server in
// lib/fixture.mjs, with which REFERENCE=1 runs this file.
//
// Namespaces
//   /  and  /chat         as below
//   /room-<digits>        by the pattern ^/room-\d+$ ; as below. Any other name: "Invalid namespace"
//   /refused              a middleware refuses: message "not today", data {"code":403,"retry":false}
//   /refused-bare         a middleware refuses: message "no data", without data
//   /secret               a middleware looks at the CONNECT payload: token "sesame" may enter, anything
//                         else is refused: message "wrong token", data {"given": <the token or null>}
//
// In every namespace, on connect: emits auth(<the CONNECT payload, {} without one>), after the CONNECT
// reply. Then, for each event of the client:
//   message(...args)                    emits message-back(...args), binary included
//   message-with-ack(...args) + ack     ack(...args)
//   where() + ack                       ack(<namespace>, <socket id>)
//   join(room) + ack                    joins; ack()
//   leave(room) + ack                   leaves; ack()
//   to(room, ...args)                   the others in room get note(...args)
//   in(room, ...args)                   everyone in room gets note(...args), the sender included
//   to-except(room, except, ...args)    the others in room who are not in except get note(...args)
//   broadcast(...args)                  everyone else in the namespace gets note(...args)
//   all(...args)                        everyone in the namespace gets note(...args)
//   volatile(...args)                   the sender gets note(...args), as a volatile packet
//   call-me(milliseconds, ...args)      emits question(...args) with an acknowledgement and this timeout;
//                                       emits answered(...reply), or timed-out() when none came in time
//   call-me-whenever(...args)           the same without a time-out
//   disconnect-me()                     the server leaves the namespace for the client
//   disconnect-all()                    the server closes the connection of the client
//   emit-reserved(name) + ack           emits name in every way; ack(<the error>). Not in the npm server
//   farewell(count, close)              emits note(0), note(1) ...; then as disconnect-me or disconnect-all
//   panic(), panic-at-once()            the handler panics: in its future, before it
//   panic-policy(), panic-policy-later()  the policy panics when it is asked about this event
// Namespaces that panic: /panic-matcher, /panic-policy, /panic-middleware, /panic-middleware-at-once,
// /panic-connect, /panic-disconnect; and a handshake with "panic-policy" in its query. Not in the npm server.
// On disconnect, in every namespace: everyone in the room "watchers" of / gets
//   gone(<socket id>, <namespace>, <reason>)
import "./fixture/namespaces.mjs";
import "./fixture/events.mjs";
import "./fixture/rooms.mjs";
import "./fixture/end.mjs";
import "./fixture/panics.mjs";
