// The official JavaScript SDK, unmodified, against the simulator. `./run` starts both.
//
// The SDK is pointed at the simulator by its own `gateway` setting alone. It has no upload and no deletion: these are
// plain requests here, as are the redirect that gives a code and the download of an export.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { before, describe, test } from 'node:test';

const require = createRequire(import.meta.url);
const sdk = require('purecloud-platform-client-v2');

const BASE = process.env.SIMULATOR_URL;
const REDIRECT = 'https://desktop.example/callback?from=genesys';
const CLIENT = '7d0cbb1b-2b6f-4c0f-9f0a-6a9b6a9e1c55';
const SECRET = 'simulator';
const NOWHERE = '00000000-0000-4000-8000-000000000000';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const OPERATIONS = Object.getOwnPropertyNames(sdk.ScriptsApi.prototype).filter((name) => name !== 'constructor');

// The operations that were answered with a success, under the SDK's names.
const succeeded = new Set();

// A client of its own for every test: the SDK keeps its token in it.
function connect({ extended = false } = {}) {
    const client = new sdk.ApiClientClass();
    const { hostname, port } = new URL(BASE);
    client.setGateway({ protocol: 'http', host: hostname, port: Number(port) });
    client.setReturnExtendedResponses(extended);
    // Or every client would watch for changes of its configuration file.
    client.config.live_reload_config = false;
    const api = new sdk.ScriptsApi(client);
    const scripts = new Proxy(api, {
        get: (target, name) => async (...args) => {
            const answer = await target[name](...args);
            succeeded.add(name);
            return answer;
        },
    });
    return { client, scripts };
}

async function login(clientId = CLIENT, options) {
    const { client, scripts } = connect(options);
    await client.loginClientCredentialsGrant(clientId, SECRET);
    return { client, scripts, token: client.authData.accessToken };
}

// What the SDK declares of its models, by name: the type of each property.
const declarations = readFileSync(require.resolve('purecloud-platform-client-v2/index.d.ts'), 'utf8');
const models = new Map();
function model(name) {
    if (!models.has(name)) {
        const body = declarations.match(new RegExp(`^\\texport interface ${name} \\{ \\n([^]*?)^\\t\\}`, 'm'));
        assert.ok(body, `the SDK has no model ${name}`);
        const properties = [...body[1].matchAll(/^\t\t"(\w+)"(\??): (.+);$/gm)];
        assert.ok(properties.length > 0, name);
        models.set(name, new Map(properties.map(([, key, optional, type]) => [key, { required: !optional, type }])));
    }
    return models.get(name);
}

// Asserts that a value is what the SDK declares: no property it does not know, each of its type.
function conforms(value, type, where = type) {
    const list = type.match(/^Array<(.+)>$/);
    if (list) {
        assert.ok(Array.isArray(value), `${where} is no array`);
        value.forEach((item, index) => conforms(item, list[1], `${where}[${index}]`));
    } else if (type.startsWith('Models.')) {
        const properties = model(type.slice('Models.'.length));
        assert.equal(typeof value, 'object', where);
        for (const [key, inner] of Object.entries(value)) {
            assert.ok(properties.has(key), `${where}.${key} is unknown to the SDK`);
            conforms(inner, properties.get(key).type, `${where}.${key}`);
        }
        for (const [key, { required }] of properties) {
            assert.ok(!required || key in value, `${where}.${key} is missing`);
        }
    } else if (type === 'object' || type.startsWith('{')) {
        assert.ok(value !== null && typeof value === 'object', `${where} is no object`);
    } else {
        assert.equal(typeof value, type, where);
    }
    if (/Date$/.test(where)) {
        assert.match(value, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/, where);
    }
    return value;
}

// What the SDK rejects with: the service's error body, with its status.
async function refused(call, status, code) {
    let problem;
    await assert.rejects(call, (error) => {
        problem = error;
        return true;
    });
    conforms(problem, 'Models.ErrorBody');
    assert.equal(problem.status, status, JSON.stringify(problem));
    assert.equal(problem.code, code, JSON.stringify(problem));
    assert.match(problem.contextId, UUID);
    assert.ok(problem.message.length > 0);
    assert.deepEqual(problem.errors, []);
    return problem;
}

// A refusal of the login, which the SDK leaves as its HTTP client made it.
async function loginRefused(call, error) {
    await assert.rejects(call, ({ response }) => {
        assert.equal(response.status, 400);
        assert.equal(response.data.error, error);
        assert.equal(typeof response.data.description, 'string');
        assert.equal(response.data.error_description, response.data.description);
        return true;
    });
}

async function works(client) {
    const me = await new sdk.TokensApi(client).getTokensMe();
    assert.equal(me.OAuthClient.id, CLIENT);
    assert.match(me.organization.id, UUID);
    const listing = await new sdk.ScriptsApi(client).getScripts({ pageSize: 1 });
    assert.equal(listing.entities.length, 1);
}

function expiry(client) {
    return (client.authData.tokenExpiryTime - Date.now()) / 1000;
}

// An agent who is signed in already: the redirect carries the code.
async function authorize(query = {}) {
    // The SDK's own address of the login page.
    const address = connect().client._buildAuthUrl('oauth/authorize', {
        client_id: CLIENT,
        redirect_uri: REDIRECT,
        response_type: 'code',
        ...query,
    });
    const answer = await fetch(address, { redirect: 'manual' });
    assert.equal(answer.status, 302);
    const location = new URL(answer.headers.get('location'));
    assert.equal(location.origin + location.pathname, 'https://desktop.example/callback');
    assert.equal(location.searchParams.get('from'), 'genesys');
    return location.searchParams;
}

function scriptFile(name, { pageId, greeting = 'Grüß Gott, {{Customer Name}} 🙂' }) {
    const property = (typeName, value) => ({ typeName, value });
    const variable = (name, kind, input, output) => ({
        id: crypto.randomUUID(),
        name,
        description: '',
        type: { isDynamic: false, isList: false, name: kind },
        value: { typeName: kind },
        input,
        output,
    });
    return {
        id: crypto.randomUUID(),
        name,
        organizationId: crypto.randomUUID(),
        versionId: crypto.randomUUID(),
        startPageId: pageId,
        createdDate: '2025-02-04T16:38:38Z',
        modifiedDate: '2025-02-04T16:38:38.380Z',
        pages: [
            {
                id: pageId,
                name: 'Greeting',
                properties: { backgroundColor: property('color', 'FFFFFF') },
                dataVersion: 0,
                rootContainer: {
                    type: 'verticalStackContainer',
                    properties: { margin: property('margin', [0, 0, 0, 0]) },
                    children: [{ type: 'text', properties: { text: property('interpolatedText', greeting) }, children: [] }],
                },
            },
        ],
        features: {
            scripter: { properties: { enabled: property('boolean', true) } },
            callback: { properties: { enabled: property('boolean', false) } },
        },
        variables: [
            variable('Customer Name', 'string', true, false),
            variable('Open Tickets', 'number', false, true),
            variable('Is Known', 'boolean', true, true),
        ],
        customActions: [{ id: crypto.randomUUID(), name: 'Look up', action: { block: [] } }],
        dataVersion: 0,
    };
}

// The upload, by a plain request: the id of its status.
async function upload(token, file, fields) {
    const form = new FormData();
    form.set('file', new Blob([file]), 'script.json');
    for (const [name, value] of Object.entries(fields)) {
        form.set(name, value);
    }
    const answer = await fetch(`${BASE}/uploads/v2/scripter`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${token}` },
        body: form,
    });
    assert.equal(answer.status, 200);
    const { correlationId } = await answer.json();
    assert.match(correlationId, UUID);
    return correlationId;
}

async function imported({ scripts, token }, file, fields) {
    const uploadId = await upload(token, file, fields);
    const status = await scripts.getScriptsUploadStatus(uploadId, { longPoll: true });
    conforms(status, 'Models.ImportScriptStatusResponse');
    assert.equal(status.succeeded, true, JSON.stringify(status));
    return status.url.split('/').at(-1);
}

async function remove(token, scriptId) {
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await fetch(`${BASE}/api/v2/scripts/${scriptId}`, { method: 'DELETE', headers });
    assert.equal(answer.status, 200);
}

async function all(list, query) {
    const found = [];
    for (let pageNumber = 1; ; pageNumber += 1) {
        const listing = conforms(await list({ ...query, pageNumber }), 'Models.ScriptEntityListing');
        if (listing.entities.length === 0) {
            return found;
        }
        found.push(...listing.entities);
    }
}

const ids = (scripts) => scripts.map((script) => script.id);
const names = (scripts) => scripts.map((script) => script.name);
const byCodeUnit = (a, b) => (a < b ? -1 : Number(a > b));

describe('logins', () => {
    test('client credentials', async () => {
        const { client } = connect();
        const data = await client.loginClientCredentialsGrant(CLIENT, SECRET);
        assert.equal(data, client.authData);
        assert.ok(data.accessToken.length > 40);
        assert.equal(data.refreshToken, undefined);
        assert.ok(Math.abs(expiry(client) - 86_400) < 60);
        await works(client);
    });

    test('client credentials that are wrong', async () => {
        await loginRefused(connect().client.loginClientCredentialsGrant(CLIENT, 'wrong'), 'invalid_client');
        await loginRefused(connect().client.loginClientCredentialsGrant('', SECRET), 'invalid_client');
    });

    test('an authorization code, once', async () => {
        const redirected = await authorize({ state: 'a b&c=ü' });
        assert.equal(redirected.get('state'), 'a b&c=ü');
        const { client } = connect();
        const code = redirected.get('code');
        const data = await client.loginCodeAuthorizationGrant(CLIENT, SECRET, code, REDIRECT);
        assert.ok(data.refreshToken.length > 40);
        assert.notEqual(data.refreshToken, data.accessToken);
        assert.ok(Math.abs(expiry(client) - 86_400) < 60);
        await works(client);
        await loginRefused(connect().client.loginCodeAuthorizationGrant(CLIENT, SECRET, code, REDIRECT), 'invalid_grant');
    });

    test('an authorization code of another redirect, and one never given', async () => {
        const code = (await authorize()).get('code');
        const elsewhere = connect().client.loginCodeAuthorizationGrant(CLIENT, SECRET, code, 'https://elsewhere.example/');
        await loginRefused(elsewhere, 'invalid_grant');
        await loginRefused(connect().client.loginCodeAuthorizationGrant(CLIENT, SECRET, 'never', REDIRECT), 'invalid_grant');
    });

    test('a refresh, which rotates the refresh token', async () => {
        const { client } = connect();
        await client.loginCodeAuthorizationGrant(CLIENT, SECRET, (await authorize()).get('code'), REDIRECT);
        const first = { ...client.authData };
        await client.refreshCodeAuthorizationGrant(CLIENT, SECRET, first.refreshToken);
        assert.notEqual(client.authData.accessToken, first.accessToken);
        assert.notEqual(client.authData.refreshToken, first.refreshToken);
        await works(client);
        await client.refreshCodeAuthorizationGrant(CLIENT, SECRET, client.authData.refreshToken);
        await works(client);
        await loginRefused(connect().client.refreshCodeAuthorizationGrant(CLIENT, SECRET, first.refreshToken), 'invalid_grant');
    });

    test('the refresh that the SDK does on its own when its token is refused', async () => {
        const { client, scripts } = connect();
        await client.loginCodeAuthorizationGrant(CLIENT, SECRET, (await authorize()).get('code'), REDIRECT);
        const { refreshToken } = client.authData;
        client.setAccessToken('no-such-token');
        // It renews the token but refuses its caller, with what its HTTP client made of the 401.
        await assert.rejects(scripts.getScripts(), ({ response }) => {
            assert.equal(response.status, 401);
            assert.equal(response.data.code, 'bad.credentials');
            return true;
        });
        for (let waited = 0; client.authData.refreshToken === refreshToken && waited < 5000; waited += 20) {
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
        assert.notEqual(client.authData.refreshToken, refreshToken);
        await works(client);
    });

    test('SAML2 bearer', async () => {
        const { client } = connect();
        const assertion = Buffer.from('<saml2:Assertion>ü</saml2:Assertion>').toString('base64');
        const data = await client.loginSaml2BearerGrant(CLIENT, SECRET, 'An Organisation & Söhne', assertion);
        assert.ok(data.accessToken.length > 40);
        assert.ok(Math.abs(expiry(client) - 86_400) < 60);
        await works(client);
        await loginRefused(connect().client.loginSaml2BearerGrant(CLIENT, SECRET, 'org', ''), 'invalid_request');
        await loginRefused(connect().client.loginSaml2BearerGrant(CLIENT, 'wrong', 'org', assertion), 'invalid_client');
    });

    test('PKCE, its exchange by a plain request', async () => {
        const verifier = randomBytes(48).toString('base64url');
        const challenge = createHash('sha256').update(verifier).digest('base64url');
        const exchange = async (code, codeVerifier) =>
            fetch(`${BASE}/oauth/token`, {
                method: 'POST',
                body: new URLSearchParams({
                    grant_type: 'authorization_code',
                    code,
                    code_verifier: codeVerifier,
                    client_id: CLIENT,
                    redirect_uri: REDIRECT,
                }),
            });
        const query = { code_challenge: challenge, code_challenge_method: 'S256' };

        const answer = await exchange((await authorize(query)).get('code'), verifier);
        assert.equal(answer.status, 200);
        const granted = await answer.json();
        assert.equal(granted.token_type.toLowerCase(), 'bearer');
        assert.equal(granted.expires_in, 86_400);
        assert.ok(granted.refresh_token.length > 40);
        const { client } = connect();
        client.setAccessToken(granted.access_token);
        await works(client);

        const wrong = await exchange((await authorize(query)).get('code'), 'x'.repeat(43));
        assert.equal(wrong.status, 400);
        assert.equal((await wrong.json()).error, 'invalid_grant');
        const missing = connect().client.loginCodeAuthorizationGrant(CLIENT, SECRET, (await authorize(query)).get('code'), REDIRECT);
        await loginRefused(missing, 'invalid_grant');
    });

    test('PKCE, its exchange by the SDK', async () => {
        const { client } = connect();
        const verifier = client.generatePKCECodeVerifier(128);
        const challenge = await client.computePKCECodeChallenge(verifier);
        const redirected = await authorize({ code_challenge: challenge, code_challenge_method: 'S256', state: '7' });
        assert.equal(redirected.get('state'), '7');
        const data = await client.authorizePKCEGrant(CLIENT, verifier, redirected.get('code'), REDIRECT);
        assert.ok(data.accessToken.length > 40);
        await works(client);
    });

    test('logout ends the token, and the refresh token with it', async () => {
        const { client } = connect();
        await client.loginCodeAuthorizationGrant(CLIENT, SECRET, (await authorize()).get('code'), REDIRECT);
        const { accessToken, refreshToken } = client.authData;
        await new sdk.TokensApi(client).deleteTokensMe();

        const { client: after, scripts } = connect();
        after.setAccessToken(accessToken);
        await refused(scripts.getScripts(), 401, 'bad.credentials');
        await loginRefused(after.refreshCodeAuthorizationGrant(CLIENT, SECRET, refreshToken), 'invalid_grant');
    });
});

describe('listings', () => {
    // Those the organisation has at first: `Script 1` to `Script 20`, all published.
    const QUERY = { name: 'script ', pageSize: 7 };
    let scripts;
    let known;

    before(async () => {
        ({ scripts } = await login());
        known = (await (await fetch(`${BASE}/_simulator/scripts`)).json()).filter(({ name }) => name.startsWith('Script '));
        assert.equal(known.length, 20);
    });

    for (const operation of [
        'getScripts',
        'getScriptsDivisionviews',
        'getScriptsPublished',
        'getScriptsPublishedDivisionviews',
    ]) {
        test(`${operation}: pages, and past their end`, async () => {
            const list = (query) => scripts[operation](query);
            const found = await all(list, QUERY);
            assert.deepEqual(ids(found), ids(known));
            assert.deepEqual(names(found), names(known));
            for (const script of found) {
                assert.equal(script.division.name, 'Home');
                assert.match(script.versionId, UUID);
                assert.ok(script.selfUri.endsWith(`/${script.id}`));
            }

            const middle = await list({ ...QUERY, pageNumber: 2 });
            assert.deepEqual(ids(middle.entities), ids(known).slice(7, 14));
            const { pageSize, pageNumber, total, pageCount } = middle;
            assert.deepEqual({ pageSize, pageNumber, total, pageCount }, { pageSize: 7, pageNumber: 2, total: 20, pageCount: 3 });
            const number = (uri) => new URL(uri, BASE).searchParams.get('pageNumber');
            assert.deepEqual(
                [middle.firstUri, middle.previousUri, middle.selfUri, middle.nextUri, middle.lastUri].map(number),
                ['1', '1', '2', '3', '3'],
            );

            const last = await list({ ...QUERY, pageNumber: 3 });
            assert.equal(last.entities.length, 6);
            assert.equal(last.nextUri, undefined);
            const beyond = await list({ ...QUERY, pageNumber: 1000 });
            assert.deepEqual(beyond.entities, []);
            assert.equal(beyond.total, 20);
        });

        test(`${operation}: filters`, async () => {
            const found = async (query) => (await scripts[operation]({ name: 'script ', ...query })).entities;
            assert.deepEqual(names(await found({ name: 'SCRIPT 20' })), ['Script 20']);
            assert.deepEqual(await found({ name: 'ü & nothing' }), []);
            const [{ division }] = await found({ name: 'Script 20' });
            assert.equal((await found({ divisionIds: division.id })).length, 20);
            assert.equal((await found({ divisionIds: `${NOWHERE},${division.id}` })).length, 20);
            assert.deepEqual(await found({ divisionIds: NOWHERE }), []);
            const callbacks = await found({ feature: 'callback' });
            assert.ok(callbacks.length > 0 && callbacks.length < 20);
            assert.deepEqual(await found({ flowId: NOWHERE }), []);
            const [any] = await found({ expand: 'pages', scriptDataVersion: '0' });
            assert.equal(any.id, known[0].id);
            const { pageSize, pageNumber } = await scripts[operation]();
            assert.deepEqual([pageSize, pageNumber], [25, 1]);
        });
    }

    for (const operation of ['getScripts', 'getScriptsDivisionviews']) {
        test(`${operation}: order`, async () => {
            const sorted = async (sortBy, sortOrder) =>
                names(await all((query) => scripts[operation](query), { ...QUERY, sortBy, sortOrder }));
            const byName = names(known).sort(byCodeUnit);
            assert.deepEqual(await sorted('name', 'ascending'), byName);
            assert.deepEqual(await sorted('name', 'descending'), byName.toReversed());
            assert.deepEqual(await sorted('createdDate', 'ascending'), names(known));
            assert.deepEqual(await sorted('createdDate', 'descending'), names(known).toReversed());
            assert.equal((await sorted('modifiedDate', 'ascending')).length, 20);
        });
    }

    test('the default scripts are in the published listings, and only there', async () => {
        const query = { name: 'default ', pageSize: 100 };
        const defaults = [
            '476c2b71-7429-11e4-9a5b-3f91746bffa3',
            '766f1221-047a-11e5-bba2-db8c0964d007',
            'ffde0662-8395-9b04-7dcb-b90172109065',
        ];
        for (const operation of ['getScriptsPublished', 'getScriptsPublishedDivisionviews']) {
            assert.deepEqual(ids((await scripts[operation](query)).entities).sort(), defaults);
        }
        for (const operation of ['getScripts', 'getScriptsDivisionviews']) {
            assert.deepEqual((await scripts[operation](query)).entities, []);
        }
        const script = await scripts.getScriptsPublishedScriptId(defaults[0]);
        assert.equal(conforms(script, 'Models.Script').name, 'Default Outbound Script');
        await refused(scripts.getScript(defaults[0]), 404, 'not.found');
    });
});

describe('scripts and their pages', () => {
    let scripts;
    let known;

    before(async () => {
        ({ scripts } = await login());
        known = await (await fetch(`${BASE}/_simulator/scripts`)).json();
    });

    const ways = [
        ['getScript', 'getScriptPages', 'getScriptPage', ''],
        ['getScriptsPublishedScriptId', 'getScriptsPublishedScriptIdPages', 'getScriptsPublishedScriptIdPage', 'published/'],
    ];
    for (const [one, list, page, folder] of ways) {
        test(`${one}, ${list}, ${page}`, async () => {
            // Two: variables are an array in the one and an object in the other.
            const shapes = [];
            for (const { id, name } of known.slice(0, 2)) {
                const script = conforms(await scripts[one](id), 'Models.Script');
                assert.equal(script.id, id);
                assert.equal(script.name, name);
                assert.equal(script.selfUri, `/api/v2/scripts/${folder}${id}`);
                assert.ok(script.publishedDate);
                shapes.push(Array.isArray(script.variables));

                const pages = conforms(await scripts[list](id, { scriptDataVersion: '0' }), 'Array<Models.Page>');
                assert.deepEqual(pages, script.pages);
                assert.equal(pages.length, 1);
                const [first] = pages;
                assert.equal(first.id, script.startPageId);
                assert.equal(first.name, script.startPageName);
                assert.equal(first.versionId, script.versionId);
                assert.equal(first.selfUri, `${script.selfUri}/pages/${first.id}`);
                assert.equal(first.rootContainer.type, 'verticalStackContainer');
                assert.deepEqual(await scripts[page](id, first.id, { scriptDataVersion: '0' }), first);

                await refused(scripts[page](id, NOWHERE), 404, 'not.found');
                await refused(scripts[page](id, 'no-id'), 400, 'bad.request');
            }
            assert.deepEqual(shapes, [true, false]);
            for (const operation of [one, list, (id) => scripts[page](id, NOWHERE)]) {
                const call = typeof operation === 'string' ? (id) => scripts[operation](id) : operation;
                await refused(call(NOWHERE), 404, 'not.found');
                await refused(call('no-id'), 400, 'bad.request');
                await refused(call('a/../b c?d#e'), 400, 'bad.request');
            }
        });
    }

    for (const operation of ['getScriptsPublishedScriptIdVariables', 'getScriptsPublishedDivisionviewVariables']) {
        test(operation, async () => {
            for (const { id } of known.slice(0, 2)) {
                const variables = async (query) => Object.keys(await scripts[operation](id, query)).sort();
                const whole = await scripts[operation](id);
                assert.equal(whole['Customer Name'].type.name, 'string');
                assert.equal(whole['Customer Name'].input, true);
                assert.deepEqual(await variables(), ['Customer Name', 'Open Tickets']);
                // As the SDK documents them, and as a caller may well write them.
                assert.deepEqual(await variables({ input: 'true' }), ['Customer Name']);
                assert.deepEqual(await variables({ input: true }), ['Customer Name']);
                assert.deepEqual(await variables({ input: false }), ['Open Tickets']);
                assert.deepEqual(await variables({ output: 'true' }), ['Open Tickets']);
                assert.deepEqual(await variables({ type: 'number' }), ['Open Tickets']);
                assert.deepEqual(await variables({ type: 'boolean', scriptDataVersion: '0' }), []);
                const problem = await refused(scripts[operation](id, { type: 'date' }), 400, 'invalid.value');
                assert.deepEqual(problem.details, [{ errorCode: 'invalid.value', fieldName: 'type' }]);
            }
            await refused(scripts[operation](NOWHERE), 404, 'not.found');
            await refused(scripts[operation]('no-id'), 400, 'bad.request');
        });
    }
});

describe('the life of a script', () => {
    let agent;
    let scripts;

    before(async () => {
        agent = await login();
        ({ scripts } = agent);
    });

    async function exported(id, request) {
        // Without a request the SDK sends no body at all.
        const answer = await scripts.postScriptExport(id, request && { body: conforms(request, 'Models.ExportScriptRequest') });
        conforms(answer, 'Models.ExportScriptResponse');
        const download = await fetch(answer.url);
        assert.equal(download.status, 200);
        return { text: await download.text(), name: download.headers.get('content-disposition') };
    }

    async function publish(request) {
        conforms(request, 'Models.PublishScriptRequestData');
        return conforms(await scripts.postScriptsPublished({ scriptDataVersion: '0', body: request }), 'Models.Script');
    }

    test('upload, publish, replace, export, delete', async () => {
        const name = `Beschwerde & Lob ${crypto.randomUUID()}`;
        const listed = async (operation) => ids((await scripts[operation]({ name })).entities);
        const pageId = crypto.randomUUID();
        const first = JSON.stringify(scriptFile('Another name', { pageId }), null, 2);

        const uploadId = await upload(agent.token, first, { scriptName: name });
        const pending = conforms(await scripts.getScriptsUploadStatus(uploadId), 'Models.ImportScriptStatusResponse');
        assert.deepEqual(pending, { succeeded: false });
        assert.deepEqual(await listed('getScripts'), []);
        const done = conforms(await scripts.getScriptsUploadStatus(uploadId, { longPoll: true }), 'Models.ImportScriptStatusResponse');
        assert.equal(done.succeeded, true);
        assert.deepEqual(await scripts.getScriptsUploadStatus(uploadId, { longPoll: false }), done);
        const [id] = await listed('getScripts');
        assert.equal(done.url, `${BASE}/api/v2/scripts/${id}`);

        // It is there, and no agent sees it yet.
        assert.deepEqual(await listed('getScripts'), [id]);
        assert.deepEqual(await listed('getScriptsDivisionviews'), [id]);
        assert.deepEqual(await listed('getScriptsPublished'), []);
        assert.deepEqual(await listed('getScriptsPublishedDivisionviews'), []);
        for (const operation of [
            'getScriptsPublishedScriptId',
            'getScriptsPublishedScriptIdPages',
            'getScriptsPublishedScriptIdVariables',
            'getScriptsPublishedDivisionviewVariables',
        ]) {
            await refused(scripts[operation](id), 404, 'not.found');
        }
        await refused(scripts.getScriptsPublishedScriptIdPage(id, pageId), 404, 'not.found');

        const file = JSON.parse(first);
        const editable = conforms(await scripts.getScript(id), 'Models.Script');
        assert.equal(editable.id, id);
        assert.equal(editable.name, name);
        assert.equal(editable.publishedDate, undefined);
        assert.equal(editable.startPageId, pageId);
        assert.equal(editable.startPageName, 'Greeting');
        assert.deepEqual(editable.features, file.features);
        assert.deepEqual(editable.variables, file.variables);
        assert.deepEqual(editable.customActions, file.customActions);
        assert.deepEqual(editable.pages[0].rootContainer, file.pages[0].rootContainer);
        assert.deepEqual(editable.pages[0].properties, file.pages[0].properties);
        assert.deepEqual(await scripts.getScriptPages(id), editable.pages);
        assert.deepEqual(await scripts.getScriptPage(id, pageId), editable.pages[0]);

        // Publishing makes it visible.
        const published = await publish({ scriptId: id });
        assert.equal(published.id, id);
        assert.equal(published.versionId, editable.versionId);
        assert.ok(Math.abs(Date.parse(published.publishedDate) - Date.now()) < 60_000);
        assert.deepEqual(await listed('getScriptsPublished'), [id]);
        assert.deepEqual(await listed('getScriptsPublishedDivisionviews'), [id]);
        assert.deepEqual(await scripts.getScriptsPublishedScriptId(id), published);
        assert.deepEqual(await scripts.getScriptsPublishedScriptIdPages(id), published.pages);
        const page = await scripts.getScriptsPublishedScriptIdPage(id, pageId);
        assert.deepEqual(page.rootContainer, file.pages[0].rootContainer);
        for (const operation of ['getScriptsPublishedScriptIdVariables', 'getScriptsPublishedDivisionviewVariables']) {
            const variables = await scripts[operation](id, { input: 'true', output: 'true' });
            assert.deepEqual(variables, { 'Is Known': file.variables[2] });
        }

        // A replacement is editable; agents keep what was published.
        const second = JSON.stringify(scriptFile(name, { pageId, greeting: 'Hello again' }));
        assert.equal(await imported(agent, second, { scriptName: name, scriptIdToReplace: id }), id);
        const changed = await scripts.getScript(id);
        assert.notEqual(changed.versionId, editable.versionId);
        assert.deepEqual(changed.pages[0].rootContainer, JSON.parse(second).pages[0].rootContainer);
        assert.equal((await scripts.getScriptsPublishedScriptId(id)).versionId, editable.versionId);
        assert.deepEqual(await listed('getScripts'), [id]);

        // An export is what was uploaded: of the editable version unless another is named.
        for (const request of [undefined, {}]) {
            assert.equal((await exported(id, request)).text, second);
        }
        const named = await exported(id, { fileName: 'Für alle', versionId: editable.versionId });
        assert.equal(named.text, first);
        assert.match(named.name, /^attachment; filename=".+\.script"/);
        assert.equal((await exported(id, { versionId: changed.versionId })).text, second);
        await refused(scripts.postScriptExport(id, { body: { versionId: NOWHERE } }), 404, 'not.found');
        await refused(scripts.postScriptExport(NOWHERE), 404, 'not.found');

        // A version can be named when publishing too.
        assert.equal((await publish({ scriptId: id })).versionId, changed.versionId);
        assert.equal((await publish({ scriptId: id, versionId: editable.versionId })).versionId, editable.versionId);
        assert.equal((await scripts.getScriptsPublishedScriptId(id)).versionId, editable.versionId);
        await refused(scripts.postScriptsPublished({ body: { scriptId: id, versionId: NOWHERE } }), 404, 'not.found');

        await remove(agent.token, id);
        await refused(scripts.getScript(id), 404, 'not.found');
        await refused(scripts.getScriptsPublishedScriptId(id), 404, 'not.found');
        await refused(scripts.postScriptExport(id), 404, 'not.found');
        await refused(scripts.postScriptsPublished({ body: { scriptId: id } }), 404, 'not.found');
        assert.deepEqual(await listed('getScriptsPublished'), []);
    });

    test('names are not unique', async () => {
        const name = `Twice ${crypto.randomUUID()}`;
        const file = JSON.stringify(scriptFile(name, { pageId: crypto.randomUUID() }));
        const both = [await imported(agent, file, {}), await imported(agent, file, { scriptName: name })];
        assert.equal(new Set(both).size, 2);
        assert.deepEqual(ids((await scripts.getScripts({ name })).entities), both);
        for (const id of both) {
            await remove(agent.token, id);
        }
    });

    test('an upload that is no script', async () => {
        const uploadId = await upload(agent.token, '{"name": "no pages"}', { scriptName: 'Broken' });
        const status = await scripts.getScriptsUploadStatus(uploadId, { longPoll: true });
        conforms(status, 'Models.ImportScriptStatusResponse');
        assert.equal(status.succeeded, false);
        assert.equal(status.message, 'Invalid script definition');
        assert.equal(status.url, undefined);
        assert.deepEqual((await scripts.getScripts({ name: 'Broken' })).entities, []);
        await refused(scripts.getScriptsUploadStatus(NOWHERE), 404, 'not.found');
        await refused(scripts.getScriptsUploadStatus('no-id'), 400, 'bad.request');
    });
});

describe('errors', () => {
    test('400: a value that is none', async () => {
        const { scripts } = await login();
        const wrong = [
            ['getScripts', { pageSize: 0 }, 'pageSize'],
            ['getScripts', { pageSize: 'many' }, 'pageSize'],
            ['getScriptsDivisionviews', { pageNumber: -1 }, 'pageNumber'],
            ['getScriptsPublished', { pageNumber: 1.5 }, 'pageNumber'],
            ['getScriptsPublishedDivisionviews', { pageSize: 3_000_000_000 }, 'pageSize'],
            ['getScripts', { sortBy: 'size' }, 'sortBy'],
            ['getScriptsDivisionviews', { sortOrder: 'up' }, 'sortOrder'],
        ];
        for (const [operation, query, fieldName] of wrong) {
            const problem = await refused(scripts[operation](query), 400, 'invalid.value');
            assert.deepEqual(problem.details, [{ errorCode: 'invalid.value', fieldName }]);
            assert.equal(problem.messageParams.value, String(query[fieldName]));
            assert.ok(problem.message.includes(`Value [${query[fieldName]}] is not valid`));
            assert.ok(problem.messageWithParams.includes('{value}'));
        }
    });

    test('400: a body that is none', async () => {
        const { scripts } = await login();
        for (const body of [undefined, {}, { versionId: NOWHERE }, { scriptId: 7 }, { scriptId: 'no-id' }, [], '"text"']) {
            await refused(scripts.postScriptsPublished({ body }), 400, 'bad.request');
        }
        await refused(scripts.postScriptExport(NOWHERE, { body: { versionId: 7 } }), 400, 'bad.request');
    });

    test('401: no token, and one that is none', async () => {
        const { client, scripts } = connect();
        await refused(scripts.getScripts(), 401, 'authentication.required');
        await refused(scripts.postScriptsPublished({ body: { scriptId: NOWHERE } }), 401, 'authentication.required');
        client.setAccessToken('no-such-token');
        const problem = await refused(scripts.getScript(NOWHERE), 401, 'bad.credentials');
        assert.equal(problem.message, 'Invalid login credentials.');
    });

    test('403: a permission is missing', async () => {
        const { scripts } = await login('viewer');
        const [script] = (await scripts.getScripts()).entities;
        assert.equal((await scripts.getScript(script.id)).id, script.id);
        const denied = {
            'scripter:script:search': ['getScriptsDivisionviews'],
            'scripter:publishedScript:view': [
                'getScriptsPublished',
                'getScriptsPublishedScriptId',
                'getScriptsPublishedScriptIdPages',
                'getScriptsPublishedScriptIdVariables',
            ],
            'scripter:publishedScript:search': [
                'getScriptsPublishedDivisionviews',
                'getScriptsPublishedDivisionviewVariables',
            ],
            'scripter:publishedScript:add': ['postScriptsPublished'],
        };
        for (const [permission, operations] of Object.entries(denied)) {
            for (const operation of operations) {
                const takesId = /ScriptId|Variables/.test(operation);
                const call = takesId ? scripts[operation](script.id) : scripts[operation]();
                const problem = await refused(call, 403, 'missing.any.permissions');
                assert.deepEqual(problem.messageParams, { permissions: permission });
                assert.ok(problem.message.endsWith(permission));
            }
        }
        await refused(scripts.getScriptsPublishedScriptIdPage(script.id, NOWHERE), 403, 'missing.any.permissions');
    });

    test('404: what is not there, with its correlation id in the header', async () => {
        const { scripts } = await login(CLIENT, { extended: true });
        await assert.rejects(scripts.getScript(NOWHERE), (answer) => {
            assert.equal(answer.status, 404);
            conforms(answer.body, 'Models.ErrorBody');
            assert.equal(answer.body.message, 'The requested resource was not found.');
            assert.equal(answer.headers['inin-correlation-id'], answer.body.contextId);
            assert.match(answer.headers['content-type'], /^application\/json/);
            return true;
        });
    });

    test('413: a body over the limit', async () => {
        const { scripts } = await login();
        const body = { scriptId: NOWHERE, versionId: 'x'.repeat(512_000) };
        const problem = await refused(scripts.postScriptsPublished({ body }), 413, 'request.entity.too.large');
        assert.equal(problem.messageParams.maximum, '512000');
    });

    test('429: the quota of a token, and what is left of it', async () => {
        const { scripts } = await login(CLIENT, { extended: true });
        const ask = () => scripts.getScripts({ pageSize: 1 });
        const first = await ask();
        assert.equal(first.status, 200);
        assert.equal(first.headers['inin-ratelimit-allowed'], '300');
        assert.equal(first.headers['inin-ratelimit-count'], '1');
        assert.ok(Number(first.headers['inin-ratelimit-reset']) <= 60);

        const answers = await Promise.allSettled(Array.from({ length: 319 }, ask));
        const done = answers.filter(({ status }) => status === 'fulfilled');
        assert.equal(done.length, 299);
        for (const { reason } of answers.filter(({ status }) => status === 'rejected')) {
            assert.equal(reason.status, 429);
            conforms(reason.body, 'Models.ErrorBody');
            assert.equal(reason.body.status, 429);
            assert.equal(reason.body.code, 'too.many.requests.retry.after');
            const seconds = reason.headers['retry-after'];
            assert.ok(Number(seconds) >= 1 && Number(seconds) <= 60, seconds);
            assert.equal(reason.body.message, `Rate limit exceeded the maximum. Retry the request in [${seconds}] seconds`);
            assert.equal(reason.headers['inin-correlation-id'], reason.body.contextId);
            assert.equal(reason.headers['inin-ratelimit-count'], '300');
        }
        // The quota is the token's: another goes on.
        const { scripts: others } = await login();
        assert.equal((await others.getScripts({ pageSize: 1 })).entities.length, 1);
    });
});

test('every operation of the SDK was answered', async () => {
    assert.equal(OPERATIONS.length, 15);
    const missing = OPERATIONS.filter((name) => !succeeded.has(name));
    assert.deepEqual(missing, [], 'no test got an answer from them');
    const stats = await (await fetch(`${BASE}/_simulator/stats`)).json();
    for (const name of OPERATIONS) {
        assert.ok(stats.operations[name] > 0, `the simulator saw no ${name}`);
    }
});
