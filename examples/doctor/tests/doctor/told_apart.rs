//! Files are told apart by what is in them: results that cannot be read are refused, and a data file is taken.

use crate::made::Scratch;
use genesys_doctor::examine;

/// Why it is refused.
fn refusal(text: &str) -> Option<String> {
    let file = Scratch::new("file", text);
    examine(std::slice::from_ref(&file.0)).err().map(|failed| failed.iter().map(|f| f.why.reason.clone()).collect())
}

#[test]
fn results_of_another_kind_are_no_data_file() {
    let epoch = "1700000000123,40,GET script,200\n1700000000163,41,GET script,400\n";
    for (what, text, words) in [
        (
            "a table that was saved",
            "Sample #,Start Time,Thread Name,Label,Sample Time(ms),Status,Bytes,Sent Bytes,Latency,Connect Time(ms)\n1,22:13:20.123,A 1-1,GET,40,Success,900,240,38,0\n",
            &["responseCode", "success"][..],
        ),
        (
            "newman",
            "iteration,collectionName,requestName,method,url,status,code,responseTime,responseSize,executed,failed,skipped,totalAssertions,executedCount,failedCount,skippedCount\n1,c,GET,GET,https://a.test/x,OK,200,41,900,,,,0,0,0,0\n",
            &["responseCode", "success"],
        ),
        ("phout", "1700000000.582\tGET\t1510\t934\t52\t384\t140\t1249\t37\t478\t0\t404\n", &["phout"]),
        (
            "siege",
            "      Date & Time,  Trans,  Elap Time,  Data Trans,  Resp Time,  Trans Rate,  Throughput,  Concurrent,    OKAY,   Failed\n2026-01-01 10:00:00,    100,       9.9,    1,  0.05, 10.1, 0.1, 0.5, 100, 0\n",
            &["responseCode", "success"],
        ),
        (
            "an access log",
            "127.0.0.1 - - [10/Oct/2026:13:55:36 -0700] \"GET /api/v2/scripts/x HTTP/1.1\" 400 226\n",
            &["log"],
        ),
        (
            "a log of IIS",
            "#Software: Microsoft Internet Information Services 10.0\n#Fields: date time cs-method\n",
            &["log"],
        ),
        (
            "no outcome",
            "timeStamp,elapsed,label,threadName\n1700000000123,40,GET,A 1-1\n",
            &["responseCode", "success"],
        ),
        (
            "no time",
            "label,responseCode,responseMessage,threadName,success\nGET,200,OK,A 1-1,true\n",
            &["timeStamp", "elapsed"],
        ),
        ("rows without a header", epoch, &["header"]),
    ] {
        let reason = refusal(text);
        let told = reason.as_deref().is_some_and(|reason| words.iter().all(|word| reason.contains(word)));
        assert!(told, "{what}: {reason:?}");
    }
}

#[test]
fn a_data_file_is_taken_whatever_its_columns_are_called() {
    let id = "0a1b2c3d-0000-4000-8000-000000000001";
    for text in [
        format!("scriptId,token\n{id},t0\n"),
        format!("method,url,name\nGET,https://a.test/{id},Anna\n"),
        format!("scriptId,success\n{id},true\n"),
        format!("id,status,label\n{id},open,x\n"),
        format!("id,dataType,throughput\n{id},int,3\n"),
        format!("{{{{scriptId}}}},t0\n{id},t1\n"),
        format!("{{scriptId}},t0\n{id},t1\n"),
        format!("[agent],{id}\nx,{id}\n"),
        "4915112345678,1234\n4915112345679,1235\n".to_owned(),
    ] {
        assert_eq!(refusal(&text), None, "{text}");
    }
    for text in [
        "{\"a\": 1}",
        "{ \"metric\": \"x\", \"type\": \"Point\" }\n{}",
        "[{\"a\":1}]",
        "[1, 2]",
        "{}",
        "[\n\"a\"]",
        "{\n",
    ] {
        assert!(refusal(text).is_some_and(|reason| reason.contains("JSON") || reason.contains("k6")), "{text}");
    }
}

#[test]
fn sums_of_locust_are_no_data_file_whatever_its_age() {
    for header in [
        "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time",
        "Type,Name,# requests,# failures,Median response time,Average response time",
        "Method,Name,# requests,# failures,Median response time,Average response time,Requests/s",
        "Name,# requests,50%,66%,75%,80%,90%,95%,98%,99%,100%",
        "Type,Name,# requests,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,99.999%,100%",
    ] {
        let quoted = format!("\"{}\"", header.replace(',', "\",\""));
        for header in [header, &quoted] {
            let reason = refusal(&format!("{header}\n\"GET\",\"/api/v2/scripts/[id]\",400,160,40,44\n"));
            assert!(reason.as_ref().is_some_and(|reason| reason.contains("Locust")), "{header}: {reason:?}");
        }
    }
}
