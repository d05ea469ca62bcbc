// A static file server, and an upload's digest as lab/app answers it.
'use strict';
const crypto = require('crypto'), fs = require('fs'), http = require('http'), path = require('path');

const root = '{{.Root}}';

function echo(req, res) {
	const sum = crypto.createHash('sha256');
	let length = 0;
	req.on('data', (b) => { sum.update(b); length += b.length; });
	req.on('end', () => {
		res.setHeader('Content-Type', 'application/json');
		res.end(JSON.stringify({length, sha256: sum.digest('hex')}) + '\n');
	});
}

http.createServer((req, res) => {
	console.log(`${req.socket.remoteAddress} "${req.method} ${req.url}"`);
	if (req.url === '/echo') {
		return echo(req, res);
	}
	const file = path.join(root, path.normalize('/' + req.url));
	fs.stat(file, (err, st) => {
		if (err || !st.isFile()) {
			res.statusCode = 404;
			return res.end('not found\n');
		}
		res.setHeader('Content-Length', st.size);
		fs.createReadStream(file).pipe(res);
	});
}).listen({{.Port}}, '{{.Wildcard}}');
