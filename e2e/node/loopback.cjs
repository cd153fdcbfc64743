// Preload for servers that open all interfaces: whatever host they ask for, they listen on 127.0.0.1. Prints the port
// that was taken, so that a server can be started on port 0.
'use strict';
const net = require('node:net');

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const done = args.find((arg) => typeof arg === 'function');
  const asked = typeof args[0] === 'object' && args[0] !== null ? args[0].port : args[0];
  this.once('listening', () => process.stderr.write(`loopback: listening on ${this.address().port}\n`));
  return listen.call(this, { port: Number(asked) || 0, host: '127.0.0.1' }, done);
};
