// Node's fetch: what came back, in one line.
const url = process.argv[2];
(async () => {
  const heard = [];
  for (const path of ['small', 'large', 'none', 'small']) {
    const response = await fetch(`${url}/first/${path}`);
    heard.push(`${response.status}:${(await response.arrayBuffer()).byteLength}`);
  }
  console.log(heard.join(' '));
})().catch((error) => console.log(error.cause?.code ?? error.name));
