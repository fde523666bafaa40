package main

import (
	"k8s.io/apimachinery/pkg/runtime"
)

// writtenDocuments are JSON documents at the edges of the rules.
var writtenDocuments = []string{
	`{"apiVersion":"v1","kind":"ConfigMap"}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":null}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":[]}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":["a"]}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":"x"}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":null,"uid":null,"generation":null,"labels":null,"finalizers":null,"ownerReferences":null,"deletionTimestamp":null,"deletionGracePeriodSeconds":null}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":null,"b":"c"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":1}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":["b"]}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":["a","b"]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":"a=b"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"1","a":"2"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"1","a":null}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"1"},"labels":{"b":"2"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"1"},"labels":null}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"1"}},"metadata":{"labels":{"b":"2"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"1"}},"metadata":{"name":"x"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":null}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"Labels":{"a":"1"},"LABELS":{"b":"2"},"Name":"x"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","Metadata":{"labels":{"a":"1"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generation":1.0}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generation":1e3}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generation":"1"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generation":9223372036854775808}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generation":-0}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"deletionTimestamp":"2026-07-01T14:00:00.123456789+02:00"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"deletionTimestamp":"soon"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"deletionTimestamp":""}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"finalizers":["a",null,""]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"finalizers":[1]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"ownerReferences":[null,{"uid":"u","controller":null,"blockOwnerDeletion":true,"x":[1]}]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"ownerReferences":[["v1"]]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"ownerReferences":{"uid":"u"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"ownerReferences":[{"uid":"u","blockOwnerDeletion":"true"}]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"\u0061\ud83d\udc55":"\u003cb\u003e\/"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"\ud800"}}}`,
	"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"labels\":{\"a\":\"\xff\"}}}",
	"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"labels\":{\"a\":\"\t\"}}}",
	"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{\"a\":\"\xff\"},\"labels\":{\"a\":\"b\"}}}",
	" \t\r\n{ \"apiVersion\" : \"v1\" , \"kind\" : \"ConfigMap\" , \"metadata\" : { \"labels\" : { \"a\" : \"b\" } } } \n",
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"}}} x`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"}}}{}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"},}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"}},"data":{"a":}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"}},"data":{"a":"\x"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"}},"x":[01]}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":{"a":"b"}},"x":[1e400,-1,1.5,true,false,null,{}]}`,
	`{"metadata":{"labels":{"a":"b"}},"kind":"ConfigMap","apiVersion":"v1"}`,
	`{"kind":"ConfigMap","metadata":{"labels":{"a":"b"}}}`,
	`{"apiVersion":"v1","metadata":{"labels":{"a":"b"}}}`,
	`{"apiVersion":1,"kind":"ConfigMap","metadata":{"labels":{"a":"b"}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","kind":"ConfigMap","metadata":{"labels":{"a":"b"}}}`,
	`["v1","ConfigMap",{"labels":{"a":"b"}}]`,
	`null`, `""`, `{}`, ``, `x`, `apiVersion: v1`, `k8s:enc:aescbc:v1:key1:abc`,
}

// writtenCBOR are items with a map of apiVersion v1 and kind ConfigMap, and edges of the format.
var writtenCBOR = []string{
	// A map and strings of open length; labels {"ab": "c"}.
	"\xbf" + typeMetaCBOR + "\x68metadata\xbf\x46labels\xbf\x7f\x61a\x61b\xff\x5f\x41c\x40\xff\xff\xff\xff",
	// The same with a chunk of another type, and with a break after a key.
	"\xbf" + typeMetaCBOR + "\x68metadata\xbf\x46labels\xbf\x7f\x61a\x41b\xff\x41c\xff\xff\xff",
	"\xbf" + typeMetaCBOR + "\x68metadata\xbf\x46labels\xbf\x41a\xff\xff\xff",
	// Fields to skip: tags, floats, nested containers of open and of known length, big integers.
	"\xa5" + typeMetaCBOR + "\x41x\xc0\x64true\x41y\x9f\xf9\x3c\x00\xfa\x3f\x80\x00\x00\xbf\x41a\x80\xff\xff\x48metadata\xa1\x46labels\xa1\x41a\x41b",
	"\xa4" + typeMetaCBOR + "\x41x\xbf\x41a\xff\x48metadata\xa0",
	"\xa4" + typeMetaCBOR + "\x41x\xf7\x48metadata\xa0",
	"\xa4" + typeMetaCBOR + "\x41x\xff\x48metadata\xa0",
	"\xa4" + typeMetaCBOR + "\x41x\xf8\x18\x48metadata\xa0",
	"\xa4" + typeMetaCBOR + "\x41x\x1c\x48metadata\xa0",
	// A label twice, a field twice, a tagged label, a label of undefined, a key that is a number, a string that is no
	// UTF-8.
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xa2\x41a\x41b\x41a\x41c",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa2\x46labels\xa0\x46labels\xa1\x41a\x41b",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xa1\x41a\xd6\x41b",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xa1\x41a\xf7",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xa1\x01\x41b",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xa1\x41a\x61\xff",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xa1\x41a\x41\xff",
	// Lengths written with more bytes than needed; generation -1 and one too large.
	"\xb8\x03" + typeMetaCBOR + "\x58\x08metadata\xb9\x00\x01\x5a\x00\x00\x00\x06labels\xbb\x00\x00\x00\x00\x00\x00\x00\x01\x41a\x5b\x00\x00\x00\x00\x00\x00\x00\x01b",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x4ageneration\x20",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x4ageneration\x3b\x80\x00\x00\x00\x00\x00\x00\x00",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x4ageneration\x1b\x80\x00\x00\x00\x00\x00\x00\x00",
	// Lengths beyond the end, trailing bytes.
	"\xa3" + typeMetaCBOR + "\x48metadata\xa1\x46labels\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
	"\xa3" + typeMetaCBOR + "\x48metadata\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
	"\xa3" + typeMetaCBOR + "\x48metadata\xa0\x00",
	"\xf6", "\x80", "",
}

const typeMetaCBOR = "\x4aapiVersion\x42v1\x44kind\x49ConfigMap"

// writtenEnvelopes are protobuf envelopes at the edges of the wire format.
func writtenEnvelopes() [][]byte {
	typeMeta := field(1, field(1, "v1")+field(2, "ConfigMap"))
	label := func(key, value string) string { return field(11, field(1, key)+field(2, value)) }
	object := func(meta string) string { return field(2, field(1, meta)) }
	plain := object(label("a", "b"))
	var envelopes [][]byte
	for _, content := range []string{
		typeMeta + plain,
		plain + typeMeta,
		typeMeta,
		plain,
		"",
		typeMeta + field(2, ""),
		typeMeta + object(""),
		// Labels: the last wins, a lone key, a lone value, none, more fields in the entry.
		typeMeta + object(label("a", "1")+label("b", "x")+label("a", "2")),
		typeMeta + object(field(11, field(1, "a"))+field(11, field(2, "b"))+field(11, "")),
		typeMeta + object(field(11, field(9, "x")+field(2, "late")+field(1, "a")+field(1, "b"))),
		// Messages merge; `raw` does not.
		typeMeta + field(2, field(1, label("a", "1")+field(1, "n"))+field(1, label("b", "2"))),
		typeMeta + plain + object(label("c", "d")),
		field(1, field(1, "v1")) + field(1, field(2, "ConfigMap")) + plain,
		// Unknown fields of each wire type, groups in groups.
		typeMeta + object("\xf8\x01\x96\x01"+"\xf9\x0112345678"+field(31, "xyz")+"\xfd\x011234"+"\xfb\x01\x0b\x08\x01\x0c\xfc\x01"+label("a", "b")),
		typeMeta + object("\xfb\x01\x0b\x08\x01\x0c"+label("a", "b")),
		typeMeta + object("\xfc\x01"+label("a", "b")),
		typeMeta + object("\x07"+label("a", "b")),
		// Wrong wire types, the field number 0, a number of eleven bytes, one that overflows.
		typeMeta + object("\x58\x01"),
		typeMeta + object("\x3a\x01x"),
		typeMeta + object("\x00\x00"+label("a", "b")),
		typeMeta + object("\x38\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
		typeMeta + object("\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
		typeMeta + object("\x38\x85\x80\x80\x80\x80\x80\x80\x80\x80\x02"),
		// A time that is empty, with nanoseconds, before 1970.
		typeMeta + object(field(9, "")),
		typeMeta + object(field(9, "\x08\x05\x10\x07")),
		typeMeta + object(field(9, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
		// Booleans other than 0 and 1.
		typeMeta + object(field(13, field(4, "u")+"\x30\x02\x38\x00")),
		// Strings that are not UTF-8.
		typeMeta + object(label("a", "\xff")),
		// An envelope that says what it holds.
		typeMeta + plain + field(3, "") + field(4, ""),
		typeMeta + plain + field(3, "gzip"),
		typeMeta + plain + field(4, runtime.ContentTypeProtobuf),
		typeMeta + plain + field(4, runtime.ContentTypeJSON),
		// Lengths beyond the end.
		typeMeta + "\x12\x7f\x0a",
		typeMeta + object("\x5a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
		typeMeta + object("\x5a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	} {
		envelopes = append(envelopes, []byte("k8s\x00"+content))
	}
	return envelopes
}

// field writes a protobuf field with a length; the number below 32, the content shorter than 16,384 bytes.
func field(number byte, content string) string {
	tag := string([]byte{number<<3 | 2})
	if number > 15 {
		tag = string([]byte{number<<3&0x7f | 2 | 0x80, number >> 4})
	}
	if len(content) < 128 {
		return tag + string([]byte{byte(len(content))}) + content
	}
	return tag + string([]byte{byte(len(content))&0x7f | 0x80, byte(len(content) >> 7)}) + content
}
