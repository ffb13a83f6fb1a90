//! Reading and writing the little XML and percent-encoding that the protocol needs.

use std::fmt::Write;

use super::store::{Entry, Page, Refusal};

/// Decodes `%XX`; unlike in a form, `+` is itself.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&gt;", ">")
        .replace("&lt;", "<")
        .replace("&amp;", "&")
}

fn document(root: &str, content: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><{root}>{content}</{root}>")
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

pub fn error(refusal: Refusal) -> String {
    let code = element("Code", refusal.code());
    let message = element("Message", refusal.message());
    document("Error", &(code + &message))
}

pub fn upload_begun(bucket: &str, key: &str, upload: &str) -> String {
    let names = element("Bucket", bucket) + &element("Key", key);
    document(
        "InitiateMultipartUploadResult",
        &(names + &element("UploadId", upload)),
    )
}

pub fn upload_completed(bucket: &str, key: &str, etag: &str) -> String {
    let names = element("Bucket", bucket) + &element("Key", key);
    document(
        "CompleteMultipartUploadResult",
        &(names + &element("ETag", etag)),
    )
}

/// The answer to a listing; `url_encoded` as the request's `encoding-type=url` asks.
pub fn listing(bucket: &str, page: &Page, url_encoded: bool) -> String {
    let name = |text: &str| {
        if url_encoded {
            percent_encode(text)
        } else {
            text.to_owned()
        }
    };
    let mut content = element("Name", bucket);
    content += &element("KeyCount", &page.entries.len().to_string());
    content += &element("IsTruncated", &page.next.is_some().to_string());
    if let Some(token) = &page.next {
        content += &element("NextContinuationToken", token);
    }
    for entry in &page.entries {
        match entry {
            Entry::Object(object) => {
                content += "<Contents>";
                content += &element("Key", &name(&object.key));
                content += &element("Size", &object.size.to_string());
                let updated = object.updated.format("%Y-%m-%dT%H:%M:%S%.3fZ");
                content += &element("LastModified", &updated.to_string());
                content += &element("ETag", &object.etag());
                content += "</Contents>";
            }
            Entry::Prefix(prefix) => {
                content += "<CommonPrefixes>";
                content += &element("Prefix", &name(prefix));
                content += "</CommonPrefixes>";
            }
        }
    }
    document("ListBucketResult", &content)
}

/// The part numbers and ETags of a request to complete an upload, in its order.
pub fn parts_to_complete(body: &str) -> Option<Vec<(u32, String)>> {
    let part = |text: &str| {
        let number = text_of(text, "PartNumber")?.trim().parse().ok()?;
        Some((number, text_of(text, "ETag")?.trim().to_owned()))
    };
    body.split("<Part>").skip(1).map(part).collect()
}

fn text_of(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(unescape(text))
}
