// What the page asks of its server.

export async function ask(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  throw new Error((await response.json()).error);
}

export async function post(path, content, options = {}) {
  return ask(path, { method: "POST", body: JSON.stringify(content), ...options });
}

export const lineOf = (error) => // what fetch throws when the connection fails is a TypeError
  error instanceof TypeError ? "No answer: is lorarar serve running?" : error.message;

// Draw `request`, telling `tell` of each event; gives the last one, which has the picture, and the
// seed, which is chosen by the server if -1 was asked for.
export async function draw(request, signal, tell) {
  const response = await post("draw", request, { signal });
  let seed = request.seed;
  for await (const event of eventsOf(response)) {
    if (event.error) throw new Error(event.error);
    if ("seed" in event) seed = event.seed;
    tell(event);
    if (event.picture) return { picture: event.picture, request: { ...request, seed } };
  }
  throw new TypeError("ended early");
}

async function* eventsOf(response) {
  let rest = "";
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.map((line) => JSON.parse(line));
  }
}
