// A web server that answers what lab/app answers, in the words of Node.js.
'use strict';
const crypto = require('crypto'), fs = require('fs'), http = require('http'), path = require('path'), stream = require('stream');

const node = '{{.Node}}', root = '{{.Root}}';

// All documents /bytes/N are the beginning of the longest.
const longest = path.join(root, 'bytes', '100000000');

const ignore = () => {}; // a client that is gone needs no answer

function text(res, s, status = 200) {
	res.statusCode = status;
	res.setHeader('Content-Type', 'text/plain; charset=utf-8');
	res.end(s);
}

function json(res, value) {
	res.setHeader('Content-Type', 'application/json');
	res.end(JSON.stringify(value) + '\n');
}

// send answers with the octets from first to last of a file.
function send(req, res, file, first, last) {
	res.setHeader('Content-Type', 'application/octet-stream');
	res.setHeader('Content-Length', last - first + 1);
	if (req.method === 'HEAD' || last < first) {
		return res.end();
	}
	stream.pipeline(fs.createReadStream(file, {start: first, end: last}), res, ignore);
}

function bytes(req, res, n) {
	const etag = `"${n}"`;
	res.setHeader('ETag', etag);
	res.setHeader('Accept-Ranges', 'bytes');
	if (req.headers['if-none-match'] === etag) {
		res.statusCode = 304;
		return res.end();
	}
	const range = /^bytes=(\d+)-(\d*)$/.exec(req.headers.range || '');
	if (!range) {
		return send(req, res, longest, 0, n - 1);
	}
	const first = Number(range[1]), last = Math.min(n - 1, range[2] ? Number(range[2]) : n - 1);
	if (first > last) {
		res.setHeader('Content-Range', `bytes */${n}`);
		return text(res, 'there is no such range\n', 416);
	}
	res.statusCode = 206;
	res.setHeader('Content-Range', `bytes ${first}-${last}/${n}`);
	send(req, res, longest, first, last);
}

function zero(req, res, n) {
	const file = path.join(root, 'zero', n);
	fs.stat(file, (err, st) => err ? text(res, 'not found\n', 404) : send(req, res, file, 0, st.size - 1));
}

function echo(req, res) {
	const sum = crypto.createHash('sha256');
	let length = 0;
	req.on('data', (b) => { sum.update(b); length += b.length; });
	req.on('end', () => json(res, {length, sha256: sum.digest('hex')}));
}

// The request, as it came; the client's port, which varies, is not in it.
function headers(req, res) {
	json(res, {client: req.socket.remoteAddress, method: req.method, target: req.url, version: req.httpVersion, headers: req.rawHeaders});
}

function trailers(req, res) {
	const parts = [];
	req.on('data', (b) => parts.push(b));
	req.on('end', () => {
		const body = Buffer.concat(parts);
		res.setHeader('Trailer', 'X-Length, X-Trailers');
		res.write(body);
		res.addTrailers({'X-Length': body.length, 'X-Trailers': req.rawTrailers.join(' ')});
		res.end();
	});
}

function chunked(req, res, n) {
	res.setHeader('Transfer-Encoding', 'chunked');
	for (let i = 0; i < n; i++) {
		res.write(`piece ${i}\n`);
	}
	res.end();
}

// Events, one each millisecond, without end if n is 0.
function sse(req, res, n) {
	res.setHeader('Content-Type', 'text/event-stream');
	let i = 0;
	const tick = setInterval(() => {
		res.write(`id: ${i}\ndata: event ${i}\n\n`);
		if (++i === n) {
			clearInterval(tick);
			res.end();
		}
	}, 1);
	res.on('close', () => clearInterval(tick));
}

function early(req, res) {
	let length = 0;
	res.write('before the body\n');
	req.on('data', (b) => { length += b.length; });
	req.on('end', () => res.end(`then ${length} octets\n`));
}

function status(req, res, code) {
	code === 204 || code === 304 ? res.writeHead(code).end() : text(res, `status ${code}\n`, code);
}

function hints(req, res) {
	res.writeEarlyHints({link: '</style.css>; rel=preload'});
	res.writeProcessing();
	text(res, 'after two interim responses\n');
}

// raw takes the connection over and writes an answer as it is.
function raw(answer) {
	return (req) => req.socket.end(answer);
}

const paths = {
	'/whoami': (req, res) => text(res, node + '\n'),
	'/echo': echo,
	'/headers': headers,
	'/slow': (req, res, query) => setTimeout(text, Number(query.get('ms')), res, node + '\n'),
	'/chunked': (req, res, query) => chunked(req, res, Number(query.get('n') ?? 3)),
	'/trailers': trailers,
	'/sse': (req, res, query) => sse(req, res, Number(query.get('n') ?? 3)),
	'/early': early,
	'/reject': (req, res) => text(res, 'not wanted\n', 413),
	'/hints': hints,
	'/close': raw('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the connection ends\n'),
	'/cut': raw('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it\n'),
	'/old': raw('HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nold\n'),
	'/ws': (req, res) => { res.setHeader('Upgrade', 'websocket'); text(res, 'WebSocket is spoken here\n', 426); },
};

function answer(req, res) {
	console.log(`${req.socket.remoteAddress} "${req.method} ${req.url}"`);
	res.setHeader('X-Node', node);
	let url, name;
	try {
		url = new URL(req.url, 'http://lab'); // absolute-form, too
		name = decodeURIComponent(url.pathname);
	} catch {
		return text(res, 'bad target\n', 400);
	}
	const m = /^\/(bytes|zero|status)\/([0-9]{1,10})$/.exec(name);
	if (m && m[1] === 'bytes' && m[2] <= 1e8) {
		bytes(req, res, Number(m[2]));
	} else if (m && m[1] === 'zero') {
		zero(req, res, m[2]);
	} else if (m && m[1] === 'status' && m[2] >= 200 && m[2] <= 599) {
		status(req, res, Number(m[2]));
	} else if (Object.hasOwn(paths, name)) {
		paths[name](req, res, url.searchParams);
	} else {
		text(res, 'not found\n', 404);
	}
}

// frame takes a client's frame, which is masked, off b's beginning. It returns
// undefined if there is not all of it.
function frame(b) {
	const short = b.length < 2 ? 0 : b[1] & 0x7f, start = {126: 8, 127: 14}[short] ?? 6; // the payload's
	if (b.length < start) {
		return undefined;
	}
	const length = short === 126 ? b.readUIntBE(2, 2) : short === 127 ? b.readUIntBE(4, 6) : short;
	if (b.length < start + length) {
		return undefined;
	}
	const mask = b.subarray(start - 4, start), payload = b.subarray(start, start + length);
	return {op: b[0] & 0x0f, payload: payload.map((octet, i) => octet ^ mask[i & 3]), rest: b.subarray(start + length)};
}

// frameHead begins a frame of a server.
function frameHead(op, n) {
	const b = Buffer.alloc(n < 126 ? 2 : n < 65536 ? 4 : 10);
	b[0] = 0x80 | op;
	b[1] = n < 126 ? n : n < 65536 ? 126 : 127;
	if (n >= 126) {
		n < 65536 ? b.writeUIntBE(n, 2, 2) : b.writeUIntBE(n, 4, 6);
	}
	return b;
}

// webSocket sends every message back (RFC 6455): messages of one frame, ping and close.
function webSocket(req, socket, head) {
	const key = req.headers['sec-websocket-key'];
	socket.on('error', ignore);
	if (req.url !== '/ws' || !key) {
		return socket.end('HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n');
	}
	const accept = crypto.createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
	socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
	let pending = head;
	const read = () => {
		for (let f; (f = frame(pending)); pending = f.rest) {
			const op = f.op === 9 ? 10 : f.op; // ping is answered by pong
			socket.write(Buffer.concat([frameHead(op, f.payload.length), f.payload]));
			if (op === 8) {
				return socket.end();
			}
		}
	};
	socket.on('data', (b) => { pending = Buffer.concat([pending, b]); read(); });
	socket.on('end', () => socket.end());
	read();
}

// Clients that are gone without a word are found by TCP's keep-alive.
const server = http.createServer({keepAlive: true, keepAliveInitialDelay: 5000, keepAliveTimeout: 2000}, answer);
server.httpAllowHalfOpen = true; // a client may send FIN, and wait for answers
server.on('upgrade', webSocket);
server.on('checkContinue', (req, res) => {
	if (req.url !== '/reject') {
		res.writeContinue();
	}
	answer(req, res);
});
server.listen({{.Port}}, '{{.Wildcard}}');
