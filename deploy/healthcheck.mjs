/** Ends with 0 while the server in this container takes requests: Docker's HEALTHCHECK. A certificate of the server is not judged here. */
import http from 'node:http';
import https from 'node:https';

const { MOME_SERVE_PORT: port = '8080', MOME_SERVE_TLS_CERT: certificate } = process.env;
const options = { host: '127.0.0.1', port, path: '/health/ready', timeout: 2000, rejectUnauthorized: false };
const request = (certificate ? https : http).get(options, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1));
request.on('timeout', () => process.exit(1)).on('error', () => process.exit(1));
