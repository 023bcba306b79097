/** Talks to the service; every failure becomes a `Problem` with words to show, or `Unreachable`. */

/** What the service refused, as its problem document says it. */
export class Problem extends Error {
  constructor(status, document, headers) {
    super(document.detail ?? document.error ?? `The service answered with status ${status}.`);
    this.status = status;
    this.code = document.code ?? "";
    this.title = document.title ?? `Error ${status}`;
    this.requestId = headers.get("X-Request-ID") ?? "";
    this.retryAfterS = Number(headers.get("Retry-After")) || 0;
  }
}

/** No answer came: the service is gone, the network is, or the connection ended half-way. */
export class Unreachable extends Error {}

/** Sends a request to a path below this page's address; resolves to the response, whatever its status. */
export async function send(path, { query = {}, ...options } = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) url.searchParams.set(name, value);
  }
  try {
    return await fetch(url, { cache: "no-store", ...options });
  } catch (error) {
    throw new Unreachable("The service could not be reached.", { cause: error });
  }
}

/** The JSON document that answers a request. */
export async function ask(path, options) {
  return (await askFully(path, options)).document;
}

/** The same with the headers of the answer. */
export async function askFully(path, options) {
  const response = await send(path, { ...options, headers: { Accept: "application/json", ...options?.headers } });
  const body = await text(response);
  const document = parsed(body);
  if (!response.ok) throw new Problem(response.status, document ?? {}, response.headers);
  return { document, headers: response.headers };
}

async function text(response) {
  try {
    return await response.text();
  } catch (error) {
    throw new Unreachable("The connection ended in the middle of the answer.", { cause: error });
  }
}

function parsed(body) {
  try {
    return body ? JSON.parse(body) : null;
  } catch {
    return null; // something between us and the service answered in its stead
  }
}
