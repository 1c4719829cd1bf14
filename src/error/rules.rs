//! What words mean: the rules by which an answer's words, and its codes taken as words, are read. Data, tried in their
//! order, the first that fits wins. How sure it is, and whether it can be at all, `cause.rs` says.
//!
//! A rule is about a thing and what is wrong with it, never about a page: the wordings of servers and frameworks that it
//! was tried on are in `tests/data`, each with where it is from. Patterns are as [`Words::say`](super::words::Words::say)
//! reads them.

use super::cause::{Cause, Endpoint};

/// What words mean.
#[derive(Debug)]
pub(super) enum What {
    /// This, whoever says so.
    Is(Cause),
    /// This, where the service says so: a proxy has sessions, clients and users of its own.
    OfService(Cause),
    /// No cause that is known, but this is said of it.
    Noted(&'static str),
    /// The same of what a server says before it hands a request on; in an API's own form it may be anything.
    Server(&'static str),
    /// More was asked than is allowed.
    Limit,
    /// The first line, or what was taken for it.
    Line,
    /// The body, where one was sent.
    Body,
    Parameter,
}

/// Where the words are believed.
const ANY: Option<Endpoint> = None;
const API: Option<Endpoint> = Some(Endpoint::Api);
const LOGIN: Option<Endpoint> = Some(Endpoint::Login);

pub(super) const MISSING: &str = "a permission is missing";

pub(super) static RULES: &[(What, Option<Endpoint>, &[&str])] = &[
    (What::Body, ANY, TOO_LARGE),
    (What::Parameter, ANY, PAGE_SIZE),
    (What::Limit, ANY, LIMIT),
    (What::Is(Cause::Overload), ANY, BUSY),
    (What::Noted("it wants a client certificate, or another one"), ANY, CERTIFICATE),
    (What::Is(Cause::BadRedirect), LOGIN, REDIRECT),
    (What::Is(Cause::WrongScheme), ANY, SCHEME),
    (What::Parameter, LOGIN, OF_A_LOGIN),
    (What::Server("the address is longer than it takes"), ANY, LENGTH),
    (What::Noted("it speaks of a part of the script"), API, PART),
    (What::Is(Cause::Header), ANY, HEADER),
    (What::OfService(Cause::BadClient), LOGIN, CLIENT),
    (What::OfService(Cause::BadGrant), LOGIN, GRANT),
    (What::Parameter, ANY, PATTERN),
    (What::Noted("the address it came from is not let in"), API, ADDRESS),
    (What::Noted(MISSING), API, PERMISSION),
    (What::Noted("it speaks of what something behind it answered or keeps"), ANY, BEHIND),
    (What::OfService(Cause::Session), API, SESSION),
    // A precondition is the request's own, whoever tells that it failed.
    (What::Is(Cause::VersionConflict), API, PRECONDITION),
    (What::OfService(Cause::VersionConflict), API, VERSION),
    (What::Body, ANY, BODY),
    (What::Is(Cause::InvalidId), API, ID),
    (What::Line, ANY, LINE),
    (What::Server("it does not take the address: a character in it, as of an id nobody encoded"), ANY, TARGET),
    (What::Server("it does not know the host it was asked for"), ANY, HOST),
    (What::Parameter, ANY, PARAMETER),
];

/// Of the script itself, whatever else is said of it.
pub(super) const DEFINITION: &[&str] = &[
    "script definition .. invalid|corrupt|corrupted|broken|malformed|incomplete|other-validation",
    "script definition .. not .. valid",
    "script is|was|seems|appears invalid|corrupt|corrupted|broken|malformed|damaged|incomplete",
    "script is|was not valid .",
    "script does not validate",
    "script other-validation failed|error|errors|failure",
    "script failed|fails other-validation",
    "script .. has|have|contains .. other-validation error|errors",
    "script .. has|have|contains .. invalid|missing|broken|corrupt page|pages|component|components|variable|variables|action|actions|element|elements|property|properties|reference|references|content",
    "script has|contains error|errors",
    "script .. can|ca|could not .. it has|contains .. error|errors",
    "it has|contains validation|other-validation error|errors",
    "other-validation failed for|of|in .. script .. error|errors",
];

/// A limit of a size is none of how much is asked.
const TOO_LARGE: &[&str] = &[
    "body|payload .. exceeds|exceed|exceeded|exceeding|over .. limit|other-limit|maximum|bytes",
    "request entity .. exceeds|exceed|exceeded|exceeding|over .. limit|other-limit|maximum|bytes",
];
const PAGE_SIZE: &[&str] =
    &["'page 'size|number .. exceeds|exceed|exceeded|exceeding|over .. limit|other-limit|maximum"];

/// With these words a login's limit is none of how fast logins come: a further login would not help, or would do harm.
pub(super) const OTHER_LIMITS: &[&str] = &[
    "locked|other-locked|lockout|blocked|suspended|account|accounts|licence|licences|license|licenses|licensed",
    "no licence|licences|license|licenses|sessions|seats",
    "plan|trial|storage|store|sessions|seats|devices|users",
    "failed|unsuccessful|consecutive|incorrect|wrong|invalid .. attempts|logins|login|passwords|password",
    "concurrent|simultaneous logins|login",
];

pub(super) const LIMIT: &[&str] = &[
    "too many requests|calls|logins|attempts|queries|transactions",
    "too many concurrent|simultaneous|recent|token|api|login|parallel|authentication requests|calls|logins|attempts|connections",
    "rate|quota|quotas|throughput .. exceeded|exceeds|exceed|exhausted|reached|hit",
    "exceeded|exceeds|exceed|exceeding|exhausted|reached|hit|over .. rate|quota|quotas|throughput",
    "request|requests|call|calls|api|usage|login|burst|concurrency|minute|second|hourly|daily limit|limits .. exceeded|exceeds|reached|hit|over",
    "exceeded|exceeds|exceeding|reached|hit .. request|requests|call|calls|api|usage|login limit|limits",
    "over query|request|rate limit",
    "limit .. per second|minute|hour|day .. exceeded|exceeds|reached|hit",
    "exceeded|exceeds|exceeding|reached|hit .. limit .. per second|minute|hour|day",
    "requests|calls|logins|queries|tokens per second|minute|hour|day .. exceeded|exceeds|reached|hit",
    "exceeded|exceeds|exceeding .. requests|calls|logins|queries .. second|seconds|minute|minutes|hour|day",
    "maximum|max|allowed number|rate of requests|calls|logins .. exceeded|reached",
    "exceeded|exceeds|exceeding|reached|hit .. maximum|max|allowed .. requests|calls|logins",
    "reduce|lower|decrease .. request|requests|call|calls rate|frequency|volume",
    "reduce|lower|decrease .. number|rate|frequency of requests|calls|logins",
    "throttled|throttling|throttle exception|error|limit",
    "throttled|throttling",
    "rate limited|limiting|limiter",
    "ratelimited",
    "ratelimit exceeded|reached|error",
    "slow down",
    "spike arrest",
    "requests|calls|rate|frequency .. too fast|quickly|high|frequent|frequently|often",
    "limit|limits exceeded exception",
];

/// Whoever is said to be too busy must be a server, or nobody: queues and agents are, too.
const BUSY: &[&str] = &[
    ". overload|overloaded .",
    "server|service|system overload",
    "server|service|system|backend|upstream|host|gateway|cluster .. overloaded|overloading",
    "currently|temporarily overloaded",
    "server|service|system|backend|upstream|api|host is|are|was|currently|too busy",
    "server|service|system|backend|upstream|api|host|we .. too busy",
    ". too busy",
    ". temporarily unavailable",
    "server|service|system|backend|upstream|api|host|site|login .. temporarily unavailable",
    "service unavailable",
    ". at|over|insufficient|no capacity",
    "server|service|system|backend|upstream|api|host|cluster|we .. at|over|insufficient|no|of capacity",
];

const SCHEME: &[&str] = &[
    "http request|traffic|requests|connection .. to|on .. https|ssl|tls",
    "http request|traffic|requests|connection .. but .. https|ssl|tls",
    "plain|plaintext|unencrypted|clear http|text .. https|ssl|tls|encrypted",
    "requires|require|using|use|utilize|speak|expects|expected tls|https|ssl",
    "insecure transport",
    "use|using|utilize|requires|require|must|only the|be|over|through|an https|tls|ssl",
    "https .. required|only",
    "ssl|tls required|only",
    "ssl|tls is required",
    "tls|ssl|https .. to .. http|plain|plaintext|non port|ssl|http",
];

const CERTIFICATE: &[&str] = &[
    "no|missing|required|invalid|bad|untrusted|expired .. client|ssl|tls certificate|cert",
    "client|ssl|tls|mtls certificate|cert .. required|missing|error|invalid|expired|rejected|untrusted|failed|requested",
    "client|ssl|tls|mtls certificate|cert .. not .. sent|provided|presented|trusted|valid|verified|verify",
    "present|provide|send .. client certificate",
    "certificate required",
];

pub(super) const REDIRECT: &[&str] = &[
    "'redirect|redirection 'uri|url|uris|urls .. invalid|mismatch|missing|unknown|unregistered|wrong|mismatched|required|incorrect|rejected",
    "'redirect|redirection 'uri|url|uris|urls .. not .. match|registered|valid|allowed|whitelisted",
    "'redirect|redirection 'uri|url|uris|urls must|should|requires|require",
    "'redirect|redirection 'uri|url|uris|urls differs|differ from",
    "invalid|mismatching|mismatched|missing|unregistered|bad|wrong|insecure|unknown|incorrect .. 'redirect|redirection 'uri|url",
    "redirectionuri|redirecturi .. invalid|mismatch|missing|not",
];

const CLIENT: &[&str] = &[
    "client|application|app .. not .. found|exist|registered|known|recognized|enabled|active|authenticated",
    "client|application .. unknown|disabled|inactive|deleted|suspended|invalid",
    "unknown|invalid|bad|incorrect|wrong|no|missing|unregistered client application|authentication|credentials|secret|id|assertion",
    "unknown|invalid|bad|incorrect|wrong|no|missing|unregistered|empty .. 'client 'id|other-id|secret",
    "'client 'id|other-id|secret .. missing|required|invalid|unknown|empty|incorrect|wrong|blank",
    "'client 'id|other-id|secret .. not .. valid|found|given|provided|specified|supplied|sent|set|known|recognized|registered|configured|correct|match",
    "'client 'id|other-id|secret must",
    "unknown|invalid|bad|incorrect|wrong client|application|app",
    "client credentials|secret|authentication .. invalid|failed|wrong|incorrect|missing|expired|mismatch|mismatched",
    "client credentials|secret|authentication .. not .. valid|match|correct",
    "invalid|incorrect|wrong|bad .. client secret|credentials",
    "authentication failed",
    "client .. not .. authorized|allowed|permitted",
    "unauthorized client",
];

/// Its name is no grant, and a scope is asked for nowhere else.
const OF_A_LOGIN: &[&str] = &[
    "missing|unsupported|invalid|unknown|required .. 'grant|response 'type",
    "'grant|response 'type is|was missing|required",
    "'code|assertion is|are missing|required|empty",
    "missing|no 'authorization 'code",
    "refresh token is missing|required|empty",
    "missing|no refresh token",
    "scope .. invalid|unknown|malformed",
    "scope .. not .. granted|allowed|supported",
];

const GRANT: &[&str] = &[
    "refresh|authorization|assertion token|code|grant .. invalid|expired|revoked|used|inactive|unknown|malformed|incorrect",
    "refresh|authorization|assertion token|code|grant .. not .. found|valid|exist|active|recognized",
    "code|assertion|grant|token .. expired|revoked|consumed",
    "code|assertion .. already been|was|used|redeemed",
    "code|assertion .. invalid|not",
    "invalid|expired|used|bad|malformed|unknown|incorrect|revoked .. code|assertion|grant|saml",
    "signature .. invalid|failed|mismatch",
    "saml|assertion .. failed|rejected|invalid|expired|signature",
    "code verifier|challenge .. invalid|failed|mismatch|wrong",
    "code verifier|challenge .. not .. match|valid|found",
    "pkce .. failed|invalid|mismatch|not",
    "user|owner is|was disabled|inactive|deactivated",
    "user|owner is|was not active|enabled",
    "invalid|wrong|incorrect user|username|password|credentials",
    "user|username|password|credentials .. invalid|wrong|incorrect",
];

const LENGTH: &[&str] = &[
    "uri|url|target|path|address|line .. too long|large|big",
    "uri|url|target|query|path|line .. longer|larger than",
    "uri|url|path|query|request string|length|line .. exceeds|exceeded",
    "too long|large uri|url|path|query|request|address",
    "length of .. uri|url|path|query .. exceeds|exceeded|limit",
];

/// The headers of pages and tables.
const PART: &[&str] = &[
    "page|pages|section|component|column|table|row .. header|headers",
    "header|headers .. page|pages|section|component|column|table|row",
];

/// What may be wrong with a header, in the two orders.
const HEADER: &[&str] = &[
    "header|headers|cookie|cookies .. missing|absent|required|invalid|malformed|bad|illegal|unsupported|duplicate|duplicated|empty|inconsistent|mismatch|mismatched|unacceptable|ambiguous|unknown|broken|incorrect|wrong|overflow|conflicting",
    "header|headers|cookie|cookies .. too long|large|big|many",
    "header|headers|cookie|cookies .. exceeds|exceed|exceeded|longer|larger",
    "header|headers .. not .. present|set|found|provided|specified|supported|valid|allowed|acceptable|supplied|sent|match|permitted|recognized|conform|included|given|consistent|parseable",
    "header|headers .. must|should be|contain|have|match|include|start|specify|not",
    "header|headers .. not .. parsed|empty|read|decoded",
    "missing|invalid|malformed|bad|illegal|unsupported|duplicate|multiple|conflicting|contradictory|inconsistent|unacceptable|oversized|large|repeated|incorrect|wrong|ambiguous|empty|unexpected .. header|headers|cookie|cookies",
    "no|null|expected|expecting|requires|require|lacks|lacking .. header|headers",
    "too many|long|large .. header|headers",
    "not .. have|provide|contain|include|send|specify|parse|supply|satisfy|find .. header|headers",
    "error|failed|failure|unable .. parsing|parse|reading|read|processing|process .. header|headers",
    "must|should have|include|contain|provide|specify|carry .. header|headers",
    "no .. acceptable|suitable representation|media|response",
    ". not acceptable .",
    "406 not acceptable",
    "not acceptable according",
    "not .. acceptable representation|media|response|content|format",
    "content|mime type|types .. invalid|missing|unsupported|required|unacceptable|wrong|incorrect|unknown|mismatch",
    "content|mime type|types .. not .. supported|acceptable|allowed|valid|specified|set|accepted|match|provided|recognized",
    "invalid|bad|wrong|missing media type|types '*|…",
    "media type|types '*|… .. not .. supported|acceptable|allowed|valid|accepted|recognized",
    "content|mime type .. must be",
    "invalid|missing|unsupported|bad|unacceptable|no|wrong|incorrect|multiple|unknown|required|expected content|mime type|types",
    "unsupported|unacceptable|incorrect media type|types",
    "not support|accept|acceptable .. content|mime type|types",
    "not support|accept .. media type|types '*|transmitted|sent|…",
    "invalid|missing|unsupported|bad|multiple|duplicate|negative|unknown content|transfer length|encoding|coding",
    "content|transfer length|encoding .. invalid|missing|required|unsupported|duplicate|mismatch",
    "content|transfer length|encoding .. not .. valid|supported|allowed|acceptable|match",
    "both .. transfer encoding .. content length",
    "both .. content length .. transfer encoding",
    "user agent .. required|missing|invalid|blocked|not",
    "'if 'match|none|modified .. required|missing|invalid|malformed|must|unsupported",
    "accept .. unsupported|unacceptable|invalid",
];

/// Of what form a value must be, whatever it is called.
const PATTERN: &[&str] = &["not|must .. match|matches|conform .. pattern|regex|regexp|regular|expression|format"];

/// No permission helps against these.
const ADDRESS: &[&str] = &["ip .. not .. authorized|allowed|permitted", "unauthorized|denied|forbidden|access .. ip"];

/// Of what is not allowed to whoever asks, whatever the permission is about.
const PERMISSION: &[&str] = &[
    "missing|required|requires|require|need|needs|lacks|lack|insufficient|no|not|without|denied|unauthorized .. permission|permissions|privilege|privileges|entitlement|entitlements|scope|scopes",
    "permission|permissions|privilege|privileges|scope|scopes .. missing|required|needed|insufficient|denied|not|lacks",
    "insufficient|missing role|roles|rights",
    "role|roles|rights .. required|missing",
    "not authorized|entitled to|for|from",
    "you|user|agent|division .. not .. authorized|allowed|permitted",
    "unauthorized|denied|forbidden|access .. division|permission|permissions",
    "unauthorized access|user|action|operation",
];

/// Of a fault behind who answers, which what was sent has no part in.
const BEHIND: &[&str] = &[
    "response|upstream|downstream|backend|storage|bucket .. json|xml|body|payload|decode|decoded|deserialize|parse|parsed|read|eof|object",
    "json|xml|body|payload|decode|deserialize|parse|read|eof|object|entity .. response|upstream|downstream|backend|storage|bucket",
    "end of stream",
    "…|'http|https|get|post|put|dial|tcp|rpc .. unexpected eof",
    "lazily initialize",
    "not initialize proxy",
    "session factory|entity|entitymanager .. closed|manager",
];

const SESSION: &[&str] = &[
    "session|token|jwt|bearer|credential|credentials .. expired|revoked|invalid|invalidated|inactive|unknown|malformed|missing|required|rejected|mismatch|conflict|terminated|ended|blacklisted|incorrect|wrong|closed",
    "session|token|jwt|bearer|credentials .. not .. found|valid|provided|supplied|specified|exist|present|active|recognized|accepted|authorized|granted|match|verified|set|included",
    "session|token|jwt .. already|another|other .. use|used|active|client|session",
    "session|token|jwt .. can|could not be",
    "invalid|expired|missing|bad|malformed|unknown|revoked|no|inactive|wrong|incorrect|stale|unauthorized|conflicting .. session|token|jwt|credentials",
    "concurrent|another|duplicate session|sessions",
    "no .. authentication|authorization .. token|credentials|session|header|provided|specified",
    "authentication|authorization|login|authenticated .. required|failed|missing|needed|invalid|expired",
    "not authenticated|logged",
    "not signed in",
    "not .. authenticated",
    "unauthenticated|unauthorized",
    "must log|login|authenticate",
    "'session 'expired|invalid|conflict|timeout",
    "session timed|timeout",
];

const PRECONDITION: &[&str] = &["etag|precondition .. failed|mismatch|mismatched"];

const VERSION: &[&str] = &[
    "version .. not .. match|current|latest",
    "version|versions|revision|etag .. mismatch|mismatched|conflict|conflicts|stale|changed",
    "not match .. version|revision|etag",
    "stale|outdated|conflicting|mismatched version|revision|etag|object|state|data",
    "conflict|conflicts|conflicting .. version|update|modification|change|edit|revision",
    "'if 'match .. failed",
    "modified|changed|updated|edited .. by another|someone|others",
    "modified|changed|updated .. since|meanwhile|concurrently",
    "optimistic lock|locking|concurrency",
    "concurrent modification|update|edit|updates|change|access|write",
    "row|entity|record|object|script|version|document|resource|flow|item locked",
    "row|entity|record|object|script|version|document|resource|flow|item .. is|was|been|currently|already|remains locked",
    "locked by another|someone|somebody|other|user|transaction|process",
    "locked for|against edit|editing|update|updates|updating|change|changes|writing|modification|publishing",
    "lock .. held|owned|conflict|taken|timeout|failed",
    "not obtain|acquire|get .. lock",
    "competing for .. resource",
    "is|are not published",
    "is|are|has|have not yet|been published",
    "not yet been published",
    "not yet published",
    "never published",
    "never been published",
    "script|flow|version not published .",
    "is|are unpublished",
    "script|flow|version|it is .. draft",
    "no published version",
];

pub(super) const LINE: &[&str] = &[
    "invalid|bad|malformed|illegal|unrecognized|broken .. request line|syntax|version|other-version",
    "invalid|bad|malformed|illegal|unrecognized|unknown|unsupported .. http method|verb|version|other-version|protocol",
    "request line .. invalid|malformed|bad|empty|missing",
    "invalid|illegal|bad .. character|characters|char .. method|protocol",
    "method name|token .. invalid",
    "invalid|bad|unsupported|unrecognized|illegal method|verb|version|protocol",
    "http .. version|other-version .. not .. supported",
    "invalid http request|format|message",
    "bad http",
    "no uri",
    "method|protocol .. not .. supported|recognized",
];

const TARGET: &[&str] = &[
    "invalid|illegal|bad|disallowed|unescaped|unsafe|unencoded|ambiguous .. character|characters|char|encoding|segment|separator|escape .. target|path|uri|url|query|address|segment",
    "character|characters .. not allowed|permitted|valid .. path|uri|url|query|target",
    "uri|url|path|target|query .. illegal|invalid|bad|disallowed .. character|characters|encoding|sequence|escape",
    "invalid|malformed|bad|illegal|ambiguous|unsafe|unparseable|incorrect uri|url|path|target",
    "invalid|malformed|bad|illegal .. request uri|url|path|target",
    "uri|url|target .. invalid|malformed|bad|illegal|ambiguous",
    "uri|url|path .. not .. valid|normalized|decode|decoded|parse|parsed",
    "not parse|decode|normalize|understand .. uri|url|path",
    "failed to decode|parse .. uri|url|path|param",
    "ambiguous uri|path|segment",
    "percent|url|uri encoding|decoding|encoded",
];

const HOST: &[&str] = &[
    "invalid|unknown|bad|unrecognized|disallowed|illegal|missing|wrong|no hostname|host",
    "hostname|host .. invalid|unknown|missing|mismatch|unrecognized",
    "hostname|host .. not .. allowed|found|configured|recognized|match|known|valid",
    "sni .. mismatch|not|missing",
    "blocked host",
];

const BODY: &[&str] = &[
    "body|payload|json|xml|multipart .. missing|required|empty|malformed|invalid|unreadable|unexpected|unparseable|corrupt|truncated|incomplete|bad|error|failed",
    "body|payload|json|xml|multipart .. too large|big|long",
    "body|payload .. exceeds|exceeded|larger",
    "body|payload|json|xml|multipart .. not .. valid|readable|empty|parse|parsed|well|read|decoded|provided|present",
    "request entity .. missing|required|empty|malformed|invalid|unreadable|too|exceeds|not",
    "missing|required|invalid|malformed|bad|empty|unparseable|unreadable|incorrect|no|unexpected|broken .. json|body|payload|xml|multipart",
    "unexpected|premature end|eof",
    "end of input",
    "expected|expecting|other-expected|other-expecting|unexpected|invalid|missing|unterminated|trailing|extra|error .. line .. column",
    "unexpected|unterminated other-token|character|string|symbol .. json|position|line|at|in",
    "invalid|illegal|unrecognized character|token|other-token .. json|position",
    "unexpected other-token",
    "not deserialize|deserialise|unmarshal|parse|read|decode|bind .. body|json|payload|multipart|type|value|message|instance|object",
    "failed|error|unable|problem|problems to|while|parsing|during|when|deserializing|reading|decoding|in .. body|json|payload",
    "failed|unable|error to deserialize|unmarshal|decode",
    "json|yaml|xml parse|parser|parsing|decode|decoding|syntax|reader|mapping|processing",
    "expecting value|property",
    "expected .. json|object|property",
    "too large|big body|payload",
    "other-content too large",
    "file .. missing|required|empty|corrupt",
];

const ID: &[&str] = &[
    "uuid|uuids|guid|guids|objectid .. invalid|malformed|badly|incorrect|expected|should|must|failed|wrong|required|bad|length|format|syntax",
    "uuid|guid|objectid .. not .. valid|recognized|parse|correct|match",
    "invalid|malformed|badly|incorrect|expected|bad|illegal|not|failed|unable|wrong|unparseable .. uuid|guid|uuids|objectid",
    "be .. uuid|guid",
    "object id .. failed|invalid",
    "cast to .. failed",
    "invalid|malformed|bad|incorrect|illegal|unknown|wrong|missing|empty|no script|page|division|flow|upload|version|resource|entity|object|path id|ids|identifier|identifiers",
    "invalid|malformed|bad|incorrect|illegal|unknown|wrong|nonexistent id|ids|identifier|identifiers",
    "'id|ids|identifier|identifiers .. invalid|malformed|incorrect|unknown|bad|wrong|illegal|empty|missing",
    "'id|ids|identifier|identifiers .. not .. valid|found|exist|recognized|correct|known|match|properly",
    "'id|identifier .. must|should .. be|have|match|contain",
    "invalid|malformed|bad .. resource name|identifier",
];

const PARAMETER: &[&str] = &[
    "validation failed|error|errors|failure|failures|exception|problem|problems",
    "constraint|constraints violation|violations|violated|validation",
    "failed|failing|errors|fails in|during|of|with validation",
    "not validate|validated|pass validation",
    "invalid argument|arguments|input|inputs|choice|option|parameter|parameters|param|params|value|values|field|fields|date|dates|datetime|time|timestamp|enum|filter|sort|query|property|attribute|number|integer|boolean|range|expand|format|type|data",
    "invalid .. parameter|parameters|field|fields|argument|value|date|property",
    "illegal|bad|wrong|unknown|unsupported|unrecognized|missing|incorrect|unexpected|duplicate|malformed|undefined .. argument|arguments|parameter|parameters|param|params|field|fields|value|values|property|properties|attribute|date|enum|option|filter",
    "parameter|parameters|param|params|field|fields|argument|arguments|property|properties|attribute|value|values|date|dates|input|option|filter|query|sort .. invalid|missing|required|unknown|unsupported|incorrect|wrong|duplicate|unrecognized|malformed|mandatory|negative|bad|empty|null",
    "parameter|parameters|param|field|fields|argument|property|attribute|value|values|date|dates|input .. not .. valid|allowed|present|supported|specified|match|provided|found|recognized|set|supplied|in|permitted|accepted|correct|exist",
    "parameter|parameters|param|field|fields|argument|property|attribute|value|values|date|dates|number|size|limit|page .. must|should be|contain|match|only",
    "parameter|parameters|param|field|fields|argument|property|attribute|value|values|number|string|date|range .. out|too|greater|less|between|larger|smaller|longer|shorter",
    "must|should|to be one|between|less|greater|equal|positive|null|numeric|integer|unique|specified|larger|smaller|longer|shorter",
    "must|should be at least|most",
    "must|should|to be a|an integer|number|string|boolean|date|array|list|url|email|positive|object",
    "must|should|to be a|an valid integer|number|string|boolean|date|array|list|url|email|value|enum|choice",
    "must|should match|contain|have .. pattern|characters|items|elements|format|expression",
    "must|should not be null|empty|blank|negative|greater|less",
    "may not be null|blank|empty",
    "'* exceeds|exceed|exceeded",
    "other-path variable .. missing|required|not",
    "'* is|are|must|should|was .. required|mandatory|invalid|missing|be|empty|unknown",
    "'* is|are not allowed|permitted|recognized",
    "this|it is required",
    "required property|properties|field|fields|parameter|parameters|missing",
    "must|should contain|include|have|specify|provide .. parameter|parameters|field|fields|property",
    "value error|errors",
    "ensure this field|value|list|that",
    "not a valid integer|number|boolean|string|list|date|choice|value|enum|format|parameter|option|type|email|url",
    "not a|an integer|number|boolean|string|list|date|array",
    "a valid integer|number|boolean|date|email|string|choice|url|biginteger .. required",
    "enter a valid",
    "wrong format",
    "type mismatch",
    "failed|unable|not to|convert|bind|coerce|parse .. value|property|type|parameter|string|argument|query|date|number|integer|boolean|enum",
    "no enum constant",
    "failed to convert|bind",
    "input should be",
    "expected .. type|number|integer|boolean|list|value|date|between",
    "incorrect type|format|value",
    "out of range",
    "duplicate parameter|key|name",
    "allowed|allowable|accepted|valid|permitted|supported values",
];
