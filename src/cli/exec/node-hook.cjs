'use strict';
// Written by `exeat exec`, loaded through NODE_OPTIONS. Node's own clients, and the AWS SDK with them, read no proxy
// variables (before Node 24 none do): their connections are opened here, through HTTPS_PROXY, as CONNECT tunnels.
const { HTTPS_PROXY = '', NO_PROXY = '' } = process.env;
const url = HTTPS_PROXY ? new URL(HTTPS_PROXY) : null;

if (url && url.protocol === 'http:') {
  const net = require('node:net');
  const tls = require('node:tls');
  const http = require('node:http');
  const https = require('node:https');
  const http2 = require('node:http2');
  const { Duplex } = require('node:stream');
  const bare = (host) => String(host || 'localhost').replace(/^\[|\]$/g, '').toLowerCase();
  const past = NO_PROXY.split(',').map((entry) => bare(entry.trim())).filter(Boolean);
  const own = (host) => /^127\./.test(host) || past.some((entry) => host === entry || host.endsWith('.' + entry));
  const credentials = decodeURIComponent(url.username) + ':' + decodeURIComponent(url.password);
  // By its name the proxy can tell, of a client that breaks off, what to set for it.
  const agent = 'User-Agent: node/' + process.versions.node + '\r\n';
  const authorization = url.username ? 'Proxy-Authorization: Basic ' + Buffer.from(credentials).toString('base64') + '\r\n' : '';

  // A socket to the proxy, handed over once it has opened a way to `host:port`.
  const tunnel = (host, port, done) => {
    const name = host.includes(':') ? '[' + host + ']' : host;
    const socket = net.connect({ host: bare(url.hostname), port: Number(url.port || 80) });
    const fail = (error) => { socket.destroy(); done(error); };
    let head = Buffer.alloc(0);
    const closed = () => fail(new Error('the proxy closed the connection'));
    const read = (chunk) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return head.length > 16384 ? fail(new Error('the proxy did not answer CONNECT')) : undefined;
      socket.removeListener('data', read);
      socket.removeListener('error', fail);
      socket.removeListener('close', closed);
      socket.pause();
      const status = head.subarray(0, end).toString('latin1').split('\r\n', 1)[0];
      if (!/^HTTP\/1\.[01] 2\d\d/.test(status)) return fail(new Error('CONNECT ' + name + ':' + port + ': ' + status));
      const rest = head.subarray(end + 4);
      if (rest.length) socket.unshift(rest);
      done(null, socket);
    };
    socket.setNoDelay(true);
    socket.on('data', read).on('error', fail).on('close', closed);
    socket.write('CONNECT ' + name + ':' + port + ' HTTP/1.1\r\nHost: ' + name + ':' + port + '\r\n' + agent + authorization + '\r\n');
  };

  // http and https, and every library on top of them that brings no agent with a way of its own.
  const route = (agent, secure) => {
    const direct = agent.createConnection;
    agent.createConnection = function (...given) {
      const options = given.find((value) => value && typeof value === 'object') || {};
      const done = given.find((value) => typeof value === 'function');
      const host = bare(options.host || options.hostname);
      if (options.socketPath || options.path?.startsWith?.('\0') || !done || own(host)) return direct.apply(this, given);
      tunnel(host, options.port || (secure ? 443 : 80), (error, socket) => {
        if (error) return done(error);
        if (!secure) return done(null, socket);
        const servername = options.servername || (net.isIP(host) ? '' : host);
        done(null, tls.connect({ ...options, host: undefined, port: undefined, path: undefined, socket, servername }));
      });
      return undefined;
    };
  };
  route(http.Agent.prototype, false);
  route(https.Agent.prototype, true);

  // Libraries that read HTTPS_PROXY themselves and then ask the proxy for an https URL in plaintext (older axios):
  // what they mean is a tunnel.
  const { request } = http;
  http.request = function (...given) {
    const options = given.find((value) => value && typeof value === 'object' && !(value instanceof URL)) || {};
    const [, authority, path] = /^https:\/\/([^/?#]+)(.*)$/i.exec(options.path || '') || [];
    const asked = bare(options.hostname || options.host) + ':' + (options.port || 80);
    if (!authority || asked !== bare(url.hostname) + ':' + (url.port || 80)) return request.apply(this, given);
    const { hostname, port } = new URL('https://' + authority);
    const headers = Object.entries(options.headers || {}).filter(([name]) => !/^proxy-/i.test(name));
    const direct = {
      ...options, protocol: 'https:', host: bare(hostname), hostname: bare(hostname), port: port || 443, auth: undefined,
      path: path.startsWith('/') ? path : '/' + path, headers: Object.fromEntries(headers), agent: options.agents?.https,
    };
    return https.request(direct, ...given.filter((value) => typeof value === 'function'));
  };
  http.get = function (...given) {
    const asked = http.request(...given);
    asked.end();
    return asked;
  };

  // fetch: undici's dispatcher, made anew with our way to connect. One that the program has set itself stays.
  const key = Symbol.for('undici.globalDispatcher.1');
  const dispatcher = () => {
    void globalThis.Headers; // loads undici
    const current = globalThis[key];
    if (!current || current.constructor.name !== 'Agent' || current.exeat) return;
    const ours = new current.constructor({
      connect: ({ hostname, host, protocol, port, servername }, done) => {
        const name = bare(hostname || host);
        const secure = protocol === 'https:';
        const number = Number(port || (secure ? 443 : 80));
        const finish = (error, socket) => {
          if (error || !secure) return done(error, socket);
          const sealed = tls.connect({ socket, servername: servername || name, ALPNProtocols: ['http/1.1'] });
          sealed.once('error', done).once('secureConnect', () => { sealed.removeListener('error', done); done(null, sealed); });
        };
        if (!own(name)) return tunnel(name, number, finish);
        const socket = net.connect({ host: name, port: number });
        socket.once('error', finish).once('connect', () => { socket.removeListener('error', finish); finish(null, socket); });
      },
    });
    Object.defineProperty(ours, 'exeat', { value: true });
    globalThis[key] = ours;
  };
  const { fetch } = globalThis;
  if (typeof fetch === 'function') {
    globalThis.fetch = function (...given) { dispatcher(); return fetch.apply(this, given); };
  }

  // http2 wants a socket at once: one that waits for its tunnel. Whoever brings a way of its own (gRPC) keeps it.
  const later = (host, port) => {
    let inner, held = [];
    const outer = new Duplex({
      read() { inner?.resume(); },
      write(chunk, _, done) { inner ? inner.write(chunk, done) : held.push(() => inner.write(chunk, done)); },
      final(done) { inner ? inner.end(done) : held.push(() => inner.end(done)); },
      destroy(error, done) { inner?.destroy(); done(error); },
    });
    tunnel(host, port, (error, socket) => {
      if (error || outer.destroyed) { socket?.destroy(); return outer.destroy(error); }
      inner = socket;
      inner.on('data', (chunk) => { if (!outer.push(chunk)) inner.pause(); }).on('end', () => outer.push(null));
      inner.on('error', (failed) => outer.destroy(failed)).on('close', () => outer.destroy()).resume();
      held.forEach((act) => act());
      held = [];
    });
    return outer;
  };
  const { connect } = http2;
  http2.connect = function (authority, ...given) {
    const { protocol, hostname, port } = new URL(String(authority.href ?? authority));
    const host = bare(hostname), options = given.find((value) => value && typeof value === 'object') || {};
    if (own(host) || options.createConnection) return connect.call(this, authority, ...given);
    const number = Number(port || (protocol === 'https:' ? 443 : 80));
    const createConnection = () => {
      const socket = later(host, number);
      if (protocol !== 'https:') return socket;
      return tls.connect({ ALPNProtocols: ['h2'], servername: net.isIP(host) ? '' : host, ...options, socket });
    };
    return connect.call(this, authority, { ...options, createConnection }, ...given.filter((value) => typeof value === 'function'));
  };
  require('node:module').syncBuiltinESMExports();
}
