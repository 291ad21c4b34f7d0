"""Writes haproxy.cfg for the routes on standard input.

The routes are the scenario's Envoy configuration as the datapath's own reader understands it (JSON of `kmesh_config::Config`).
What HAProxy cannot do in the same way is refused by name: a proxy that routes differently would be compared unfairly.
"""

import json
import os
import sys


class Refused(Exception):
    pass


def blank(value):
    """Whether a field asks for nothing."""
    if isinstance(value, dict):
        return all(blank(inner) for inner in value.values())
    return value in (None, False, 0, "", [])


def only(thing, what, *known):
    """Refuses every field that is set and not known here: later versions of the routes may say more."""
    for key, value in thing.items():
        if key not in known and not blank(value):
            raise Refused(f"{what}: {key} = {json.dumps(value)} has no counterpart here")
    return thing


def variant(thing, what):
    """An enum of the routes: a word, or one key with its content."""
    if isinstance(thing, str):
        return thing, None
    [(name, content)] = thing.items()
    return name, content


def quoted(text):
    if any(ord(c) < 32 for c in text):
        raise Refused(f"{text!r} has control characters")
    return "'" + text.replace("'", "'\\''") + "'"


def paths(match, what):
    """Conditions of which one must hold; none for every path."""
    kind, text = variant(match, what)
    if kind == "Prefix":
        return [f"{{ path -m beg -- {quoted(text)} }}"] if text != "/" else [""]
    if kind == "Exact":
        return [f"{{ path -m str -- {quoted(text)} }}"]
    if kind == "Separated":
        return [f"{{ path -m str -- {quoted(text)} }}", f"{{ path -m beg -- {quoted(text + '/')} }}"]
    raise Refused(f"{what}: path match {kind}")


def header(match, what):
    only(match, what, "name", "value", "ignore_case", "invert")
    fetch = f"req.fhdr({match['name']})"
    found = f"{{ {fetch} -m found }}"
    kind, text = variant(match["value"], what)
    if kind == "Present":
        return "!" + found if match["invert"] else found
    method = {"Exact": "str", "Prefix": "beg", "Suffix": "end", "Contains": "sub"}.get(kind)
    if method is None:
        raise Refused(f"{what}: header match {kind}")
    case = "-i " if match["ignore_case"] else ""
    holds = f"{{ {fetch} -m {method} {case}-- {quoted(text)} }}"
    return f"{found} !{holds}" if match["invert"] else holds


def destinations(action, what):
    """Pairs of a condition and a cluster, the first that holds counts; and the sum of weights to draw from, if any."""
    kind, content = variant(action, what)
    if kind == "Cluster":
        return [("", content)], 0
    if kind != "Weighted":
        raise Refused(f"{what}: action {kind}")
    total = below = sum(choice["weight"] for choice in content)
    pairs = []
    for choice in reversed([choice for choice in content if choice["weight"]]):
        below -= choice["weight"]
        pairs.append((f"{{ var(txn.draw) -m int ge {below} }}", choice["name"]))
    return pairs, total


def rank(domain):
    """Exact before the longest suffix before the longest prefix before any; Envoy's order."""
    if domain == "*":
        return (3, 0)
    if domain.startswith("*"):
        return (1, -len(domain))
    if domain.endswith("*"):
        return (2, -len(domain))
    return (0, 0)


def host(domain):
    if domain == "*":
        return ""
    if domain.startswith("*"):
        return f"{{ var(txn.host) -m end -- {quoted(domain[1:].lower())} }}"
    if domain.endswith("*"):
        return f"{{ var(txn.host) -m beg -- {quoted(domain[:-1].lower())} }}"
    return f"{{ var(txn.host) -m str -- {quoted(domain.lower())} }}"


def http_frontend(routes, out):
    hosts = sorted(
        (rank(domain), number, domain)
        for number, virtual in enumerate(routes["virtual_hosts"])
        for domain in virtual["domains"]
    )
    rules, draws = [], set()
    for number, virtual in enumerate(routes["virtual_hosts"]):
        only(virtual, f"virtual host {virtual['name']}", "name", "domains", "routes")
        mine = f"{{ var(txn.vhost) -m int {number} }}"
        for place, route in enumerate(virtual["routes"]):
            what = f"virtual host {virtual['name']}, route {place}"
            only(route, what, "name", "path", "headers", "action")
            headers = " ".join(header(match, what) for match in route["headers"])
            pairs, total = destinations(route["action"], what)
            if total:
                draws.add(total)
            for path in paths(route["path"], what):
                for draw, cluster in pairs:
                    rules.append((cluster, f"{mine} {path} {headers} {draw}"))
    if len(draws) > 1:
        raise Refused(f"weights with different sums {sorted(draws)}: one draw per request is all there is")
    out.append("  mode http")
    out.append("  http-request set-var(txn.host) req.hdr(host),lower")
    for _, number, domain in hosts:
        condition = f"!{{ var(txn.vhost) -m found }} {host(domain)}"
        out.append(f"  http-request set-var(txn.vhost) int({number}) if {condition}")
    out.extend(f"  http-request set-var(txn.draw) rand({total})" for total in draws)
    out.extend(f"  use_backend {quoted('http-' + cluster)} if {condition}" for cluster, condition in rules)
    out.append("  default_backend nothing")


def backend(cluster, mode, out):
    balance = {"RoundRobin": "roundrobin", "Random": "random(1)"}.get(cluster["lb"] if isinstance(cluster["lb"], str) else "")
    if balance is None:
        raise Refused(f"cluster {cluster['name']}: lb {json.dumps(cluster['lb'])}")
    out.append(f"backend {quoted(mode + '-' + cluster['name'])}")
    out.append(f"  mode {mode}")
    out.append(f"  balance {balance}")
    if mode == "http":
        out.append("  http-reuse always")
    out.extend(f"  server e{number} {endpoint}" for number, endpoint in enumerate(cluster["endpoints"]))


def client(config, first):
    out = []
    for number, listener in enumerate(config["listeners"]):
        only(listener, f"listener {listener['name']}", "name", "address", "kind")
        out.append(f"frontend {quoted(listener['name'])}")
        out.append(f"  bind :{first + number}")
        out.append(f"  bind :::{first + number} v6only")
        kind, content = variant(listener["kind"], listener["name"])
        if kind == "Http":
            what = f"listener {listener['name']}"
            only(content, what, "name", "virtual_hosts", "options")
            options = only(content.get("options", {}), what, "codec", "validate_clusters", "paths")
            paths = dict(options.get("paths", {}))
            if paths.get("escaped_slashes") == "Keep":
                del paths["escaped_slashes"]
            only(paths, f"{what}: paths")
            if options.get("codec", "Auto") == "Http2":
                raise Refused(f"{what}: HTTP/2")
            http_frontend(content, out)
        elif kind == "Tcp" and len(content) == 1:
            out.append("  mode tcp")
            out.append(f"  default_backend {quoted('tcp-' + content[0]['name'])}")
        else:
            raise Refused(f"listener {listener['name']}: {kind} with more than one cluster")
    for cluster in config["clusters"]:
        if cluster.get("policy", {}).get("http2"):
            raise Refused(f"cluster {cluster['name']}: HTTP/2")
        # Breakers and timeouts stay at HAProxy's: none of the scenarios comes near them.
        for mode in ("http", "tcp"):
            backend(cluster, mode, out)
    return out


def server(config, first):
    """In a server's pod: each of its ports, spoken as the listener speaks whose clusters have it as an endpoint."""
    pod = os.environ["KMESH_IPV4"]
    text = json.dumps([listener for listener in config["listeners"] if variant(listener["kind"], "")[0] == "Http"])
    http = {
        endpoint
        for cluster in config["clusters"]
        if json.dumps(cluster["name"]) in text
        for endpoint in cluster["endpoints"]
    }
    out = []
    for number, port in enumerate(os.environ["KMESH_PORTS"].split()):
        mode = "http" if any(endpoint.endswith(f":{port}") for endpoint in http) else "tcp"
        out.append(f"listen port-{port}")
        out.append(f"  mode {mode}")
        out.append(f"  bind :{first + number}")
        out.append(f"  bind :::{first + number} v6only")
        if mode == "http":
            out.append("  http-reuse always")
        out.append(f"  server application {pod}:{port}")
    return out


def main():
    config = json.load(sys.stdin)
    first = int(os.environ["KMESH_REDIRECT"])
    out = [
        "global",
        "  nbthread 1",
        "defaults",
        "  timeout connect 5s",
        "  timeout client 1h",
        "  timeout server 1h",
        "frontend readiness",
        "  mode http",
        "  bind 127.0.0.1:15021",
        "  http-request return status 200",
        "backend nothing",
        "  mode http",
        "  http-request return status 404",
    ]
    out += (client if os.environ["KMESH_ROLE"] == "client" else server)(config, first)
    print("\n".join(out))


try:
    main()
except Refused as refused:
    sys.exit(f"haproxy.py: {refused}")
