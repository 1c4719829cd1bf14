//! Any bytes give rows and findings, or an error with a line: no panic, and nothing without end.

use genesys_doctor::fuzzing;
use proptest::prelude::*;

const ROWS: &str = "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,bytes,sentBytes,grpThreads,allThreads,URL,Latency,IdleTime,Connect\n\
    1700000000000,61,GET script,400,Bad Request,Agents 1-6,text,false,,310,240,20,20,https://api.test/api/v2/scripts/%3CEOF%3E,59,0,0\n\
    1700000000037,39,\"GET, script\",200,OK,Agents 1-7,text,true,,310,240,20,20,https://api.test/api/v2/scripts/1,37,0,0\n";
const ELEMENTS: &str = "<?xml version=\"1.0\"?>\n<testResults version=\"1.2\">\n<sample t=\"90\" ts=\"1700000000000\" rc=\"\" \
    rm=\"Number of samples in transaction : 1\"><httpSample t=\"40\" ts=\"1700000000000\" s=\"true\" rc=\"200\">\
    <java.net.URL>https://api.test/&#x0;&amp;</java.net.URL></httpSample></sample>\n</testResults>";
const PLAN: &str = "<jmeterTestPlan><hashTree><TestPlan testname=\"P\"/><hashTree>\n<ThreadGroup testclass=\"ThreadGroup\">\
    <stringProp name=\"ThreadGroup.num_threads\">${__P(n,100)}</stringProp></ThreadGroup><hashTree>\n<HTTPSamplerProxy>\
    <stringProp name=\"HTTPSampler.path\">/api/v2/scripts/${__urlencode(${id})}</stringProp></HTTPSamplerProxy><hashTree/>\
    </hashTree></hashTree></hashTree></jmeterTestPlan>";
const FEED: &str = "\u{feff}scriptId,token\n0a1b2c3d-0000-4000-8000-000000000001,t0\n\n\" x \",${y}\n";

/// A good file with some bytes of it replaced, taken out or put in, and cut somewhere.
fn damaged(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let odd =
        prop_oneof![any::<u8>(), Just(b'"'), Just(b'\n'), Just(b','), Just(b'<'), Just(b'&'), Just(b'$'), Just(0)];
    let spots = prop::collection::vec((any::<prop::sample::Index>(), odd, 0..3), 0..12);
    (spots, any::<prop::sample::Index>(), 1..4_usize).prop_map(move |(spots, cut, times)| {
        let mut bytes = good.as_bytes().repeat(times);
        for (at, byte, how) in spots {
            let at = at.index(bytes.len());
            match how {
                0 => bytes.splice(at..=at, [byte]).for_each(drop),
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        if times == 3 {
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        bytes
    })
}

fn any_of(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..600), 4 => damaged(good)]
}

fn read(bytes: &[u8]) {
    if let Err(why) = genesys_doctor::kind(bytes) {
        assert!(why.line >= 1 && !why.reason.is_empty(), "{why}");
    }
    fuzzing::feeder(bytes);
    fuzzing::jtl(bytes);
    fuzzing::jmx(bytes);
}

#[test]
fn numbers_without_measure_overflow_nothing() {
    for n in ["18446744073709551615", "9223372036854775807", "-1", "1e300", "NaN", ""] {
        let group = format!(
            "<ThreadGroup testname=\"x\"><stringProp name=\"ThreadGroup.num_threads\">{n}</stringProp><stringProp \
             name=\"ThreadGroup.ramp_time\">{n}</stringProp><elementProp name=\"ThreadGroup.main_controller\"><stringProp \
             name=\"LoopController.loops\">{n}</stringProp></elementProp></ThreadGroup>"
        );
        let concurrency = format!(
            "<x.ConcurrencyThreadGroup><stringProp name=\"TargetLevel\">{n}</stringProp><stringProp \
             name=\"RampUp\">{n}</stringProp></x.ConcurrencyThreadGroup>"
        );
        let cell = format!("<stringProp name=\"1\">{n}</stringProp>");
        let row = format!("<collectionProp name=\"r\">{cell}{cell}{cell}</collectionProp>");
        let ultimate = format!(
            "<x.UltimateThreadGroup><collectionProp name=\"ultimatethreadgroupdata\">{row}{row}</collectionProp>\
             </x.UltimateThreadGroup>"
        );
        let request = "<hashTree><CSVDataSet><boolProp name=\"recycle\">false</boolProp></CSVDataSet><HTTPSamplerProxy/><HTTPSamplerProxy/></hashTree>";
        for group in [group, concurrency, ultimate] {
            let plan =
                format!("<jmeterTestPlan><hashTree>{group}{request}{group}{request}</hashTree></jmeterTestPlan>");
            read(plan.as_bytes());
        }
        let rows = ROWS
            .replace(",61,", &format!(",{n},"))
            .replace("1700000000037", n)
            .replace(",20,20,", &format!(",{n},{n},"));
        read(rows.repeat(3).as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_rows(bytes in any_of(ROWS)) {
        read(&bytes);
    }

    #[test]
    fn damaged_elements(bytes in any_of(ELEMENTS)) {
        read(&bytes);
    }

    #[test]
    fn damaged_plans(bytes in any_of(PLAN)) {
        read(&bytes);
    }

    #[test]
    fn damaged_data(bytes in any_of(FEED)) {
        read(&bytes);
    }
}
