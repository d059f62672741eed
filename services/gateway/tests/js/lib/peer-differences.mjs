// The written list of differences: every table of docs/peerserver.md whose heading is `id | where | peer 1.0.2 | Signalbox | why`.
// `where` holds one or more code spans `exchange / field` (`*` stands for anything), each server's column begins with a code span that is
// exactly what was recorded; `absent` stands for a field that is not there. Prose after it is free.

import { readFileSync } from "node:fs";

const HEADING = ["id", "where", "peer 1.0.2", "signalbox", "why"];
const ABSENT = "absent";

/** The rows `{id, where, peer, signalbox, why}` of the list. Throws for a row that cannot be read. */
export function readDifferences(path) {
  const rows = [];
  let inTable = false;
  for (const line of readFileSync(path, "utf8").split("\n")) {
    const cells = splitRow(line);
    if (!cells) {
      inTable = false;
    } else if (cells.map((cell) => cell.toLowerCase()).join() === HEADING.join()) {
      inTable = true;
    } else if (inTable && !/^:?-+:?$/.test(cells[0])) {
      rows.push(parseRow(cells, line));
    }
  }
  const repeated = rows.find((row, index) => rows.findIndex((other) => other.id === row.id) !== index);
  if (repeated) {
    throw new Error(`the list of differences has two rows with the id ${repeated.id}`);
  }
  return rows;
}

/** What differs between two records, as `{exchange, field, peer, signalbox}`. */
export function compare(exchange, peer, signalbox) {
  const fields = new Set([...peer.keys(), ...signalbox.keys()]);
  return [...fields]
    .map((field) => ({ exchange, field, peer: peer.get(field) ?? ABSENT, signalbox: signalbox.get(field) ?? ABSENT }))
    .filter((difference) => difference.peer !== difference.signalbox);
}

/** The places on the list that allow this difference. */
export function findPlaces(rows, { exchange, field, peer, signalbox }) {
  return rows
    .filter((row) => row.peer.test(peer) && row.signalbox.test(signalbox))
    .flatMap((row) => row.where)
    .filter((place) => place.exchange.test(exchange) && place.field.test(field));
}

/** The difference as a row that can be pasted into the list. */
export function asRow({ exchange, field, peer, signalbox }) {
  const span = (text) => `\`${text.replaceAll("|", "\\|")}\``;
  return `| ? | ${span(`${exchange} / ${field}`)} | ${span(peer)} | ${span(signalbox)} | ? |`;
}

function splitRow(line) {
  const match = /^\|(.*)\|\s*$/.exec(line);
  return match && match[1].split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function parseRow(cells, line) {
  const [id, where, peer, signalbox, why] = cells;
  const spans = (cell) => [...(cell ?? "").matchAll(/`([^`]+)`/g)].map((match) => match[1]);
  const value = (cell) => (/^`/.test(cell ?? "") ? spans(cell)[0] : undefined);
  const places = spans(where).map(splitPlace);
  if (cells.length !== 5 || !id || !why || places.length === 0 || places.includes(undefined) || !value(peer) || !value(signalbox)) {
    throw new Error(`not a row of the list of differences: ${line}`);
  }
  return {
    id,
    why,
    where: places.map(([exchange, field]) => ({ name: `${id}: ${exchange} / ${field}`, exchange: pattern(exchange), field: pattern(field) })),
    peer: pattern(value(peer)),
    signalbox: pattern(value(signalbox)),
  };
}

/** `exchange / field`; the name of an exchange may itself hold a slash between spaces. */
function splitPlace(place) {
  const index = place.lastIndexOf(" / ");
  return index < 0 ? undefined : [place.slice(0, index), place.slice(index + 3)];
}

function pattern(text) {
  const escaped = text.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`, "s");
}
