// Requests to the admin API.
import assert from "node:assert/strict";
import { request } from "../lib/http.mjs";

/** Sends a request; the answer is `{status, headers, body}`, the body as what its JSON says. */
export async function call(node, method, path, { token, headers = {}, body } = {}) {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const json = body === undefined ? {} : { "content-type": "application/json" };
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await request(node.adminUrl, method, path, { headers: { ...authorization, ...json, ...headers }, body: text });
  const isJson = /json/.test(answer.headers["content-type"] ?? "");
  return { ...answer, body: isJson ? JSON.parse(answer.body) : answer.body };
}

/** What a GET answers, which must be a success. `parameters` is an object; `undefined` is left out. */
export async function get(node, path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined)).toString();
  const { status, body } = await call(node, "GET", `/admin/v1/${path}${query && `?${query}`}`);
  assert.equal(status, 200, `${path}: ${JSON.stringify(body)}`);
  return body;
}

/** All entries of a list, page by page. */
export async function listAll(node, path, parameters) {
  const items = [];
  let after;
  do {
    const page = await get(node, path, { ...parameters, after });
    assert.deepEqual(page.partial, []);
    items.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return items;
}

/** Every operation that the node describes: `{method, path, scope}`, the path with something in the place of its parameters. */
export async function operations(node) {
  const { body } = await call(node, "GET", "/admin/v1/openapi.json");
  return Object.entries(body.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { security }]) => ({
      method: method.toUpperCase(),
      path: path.replace(/\{\w+\}/g, "x"),
      scope: security[0].token[0],
    })),
  );
}
