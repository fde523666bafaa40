package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fxamacker/cbor/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kcbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// objectCase is a stored value with what upstream reads from it.
type objectCase struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
	// Stored is whether an apiserver may have written it: the shim must read it then, or else may call it opaque.
	Stored bool `json:"stored"`
	// Readings are what upstream's decoders (typed, custom resource) get from it; none where they fail.
	Readings []reading `json:"readings"`
}

type reading struct {
	APIVersion                 string                  `json:"apiVersion"`
	Kind                       string                  `json:"kind"`
	Name                       string                  `json:"name"`
	Namespace                  string                  `json:"namespace"`
	UID                        types.UID               `json:"uid"`
	Generation                 int64                   `json:"generation"`
	DeletionTimestamp          *int64                  `json:"deletionTimestamp"`
	DeletionGracePeriodSeconds *int64                  `json:"deletionGracePeriodSeconds"`
	Labels                     map[string]string       `json:"labels"`
	Finalizers                 []string                `json:"finalizers"`
	OwnerReferences            []metav1.OwnerReference `json:"ownerReferences"`
}

var scheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	check(corev1.AddToScheme(scheme))
	return scheme
}()

var (
	jsonSerializer     = kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme, scheme, kjson.SerializerOptions{})
	protobufSerializer = protobuf.NewSerializer(scheme, scheme)
	cborSerializer     = kcbor.NewSerializer(scheme, scheme)
)

// objects returns the section of objects.json.
func objects() section {
	var cases []objectCase
	for index, object := range storedObjects() {
		name := fmt.Sprintf("stored/%d", index)
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		check(err)
		custom := &unstructured.Unstructured{Object: content}
		custom.SetAPIVersion("stable.example.com/v1")
		custom.SetKind("Shirt")
		cases = append(cases,
			objectVector(name+"/json", encode(jsonSerializer, object), true),
			objectVector(name+"/protobuf", encode(protobufSerializer, object), true),
			objectVector(name+"/cbor", encode(cborSerializer, object), true),
			objectVector(name+"/custom-json", encode(unstructured.UnstructuredJSONScheme, custom), true),
			objectVector(name+"/custom-cbor", encode(cborSerializer, custom), true))
	}
	for index, document := range writtenDocuments {
		cases = append(cases, objectVector(fmt.Sprintf("written-json/%d", index), []byte(document), false))
		if item, ok := textCBOR(document); ok {
			cases = append(cases, objectVector(fmt.Sprintf("written-cbor/%d", index), item, false))
		}
	}
	for index, item := range writtenCBOR {
		cases = append(cases, objectVector(fmt.Sprintf("bytes-cbor/%d", index), []byte("\xd9\xd9\xf7"+item), false))
	}
	for index, envelope := range writtenEnvelopes() {
		cases = append(cases, objectVector(fmt.Sprintf("written-protobuf/%d", index), envelope, false))
	}
	return newSection("objects", cases)
}
func encode(encoder runtime.Encoder, object runtime.Object) []byte {
	var buffer bytes.Buffer
	check(encoder.Encode(object, &buffer))
	return buffer.Bytes()
}

func objectVector(name string, value []byte, stored bool) objectCase {
	entry := objectCase{Name: name, Value: value, Stored: stored, Readings: []reading{}}
	for _, serializer := range []runtime.Decoder{jsonSerializer, protobufSerializer, cborSerializer} {
		if object, gvk, err := serializer.Decode(value, nil, nil); err == nil {
			meta := object.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
			entry.Readings = append(entry.Readings, read(gvk.GroupVersion().String(), gvk.Kind, meta))
		}
	}
	custom := &unstructured.Unstructured{}
	_, _, jsonErr := unstructured.UnstructuredJSONScheme.Decode(value, nil, custom)
	if jsonErr != nil {
		custom = &unstructured.Unstructured{}
		if _, _, err := cborSerializer.Decode(value, nil, custom); err != nil {
			return entry
		}
	}
	// As apiextensions-apiserver does: pkg/apiserver/schema/objectmeta/coerce.go, GetObjectMetaWithOptions.
	text, err := utiljson.Marshal(custom.Object["metadata"])
	check(err)
	meta := &metav1.ObjectMeta{}
	if err := utiljson.Unmarshal(text, meta); err == nil && custom.GetAPIVersion() != "" {
		entry.Readings = append(entry.Readings, read(custom.GetAPIVersion(), custom.GetKind(), meta))
	}
	return entry
}

func read(apiVersion, kind string, meta *metav1.ObjectMeta) reading {
	result := reading{
		APIVersion: apiVersion, Kind: kind, Name: meta.Name, Namespace: meta.Namespace, UID: meta.UID, Generation: meta.Generation,
		DeletionGracePeriodSeconds: meta.DeletionGracePeriodSeconds, Labels: meta.Labels, Finalizers: meta.Finalizers,
		OwnerReferences: meta.OwnerReferences,
	}
	if meta.DeletionTimestamp != nil {
		seconds := meta.DeletionTimestamp.Unix()
		result.DeletionTimestamp = &seconds
	}
	return result
}

func storedObjects() []runtime.Object {
	deleted := metav1.NewTime(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC))
	yes, no, grace := true, false, int64(30)
	full := metav1.ObjectMeta{
		Name: "web-0", Namespace: "shop", UID: "0c8f5a3e-8a1c-4d58-9f8e-2d6e3f0b7a11", ResourceVersion: "", Generation: 7, GenerateName: "web-",
		CreationTimestamp: metav1.NewTime(time.Date(2026, 6, 30, 1, 2, 3, 0, time.UTC)),
		DeletionTimestamp: &deleted, DeletionGracePeriodSeconds: &grace,
		Labels:      map[string]string{"app": "web", "example.com/tier": "front", "empty": "", "skip-controller-manager-metadata-caching": "true"},
		Annotations: map[string]string{"note": "quotes \" and <angle> & \\ back\u2028slash, emoji 👕"},
		Finalizers:  []string{"example.com/b", "foregroundDeletion", "example.com/a"},
		OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "1", Controller: &yes, BlockOwnerDeletion: &yes},
			{APIVersion: "v1", Kind: "ConfigMap", Name: "settings", UID: "2", Controller: &no},
		},
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "kubectl", Operation: "Apply", APIVersion: "v1", FieldsType: "FieldsV1",
			FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:data":{}}`)},
		}},
	}
	typeMeta := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }
	objects := []runtime.Object{
		&corev1.ConfigMap{TypeMeta: typeMeta("ConfigMap")},
		&corev1.ConfigMap{TypeMeta: typeMeta("ConfigMap"), ObjectMeta: full, Data: map[string]string{"metadata": "{\"labels\":{\"a\":\"b\"}}"}, BinaryData: map[string][]byte{"b": {0, 255, 10}}},
		&corev1.Pod{TypeMeta: typeMeta("Pod"), ObjectMeta: full, Spec: corev1.PodSpec{
			Containers:  []corev1.Container{{Name: "c", Image: "registry.invalid/c:1", Args: []string{"--labels={}", "]"}, Env: []corev1.EnvVar{{Name: "A", Value: "}"}}}},
			Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, TolerationSeconds: &grace}},
		}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		&corev1.ConfigMap{TypeMeta: typeMeta("ConfigMap"), ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"a<b>&\"\\\n\u2028ä👕": "\x01\t"}}},
		&corev1.ConfigMap{TypeMeta: typeMeta("ConfigMap"), ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}, Finalizers: []string{}, OwnerReferences: []metav1.OwnerReference{{}}, Generation: -1, DeletionTimestamp: &metav1.Time{Time: time.Unix(-1, 0)}}},
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		meta := metav1.ObjectMeta{Name: word(random), Namespace: word(random), UID: types.UID(word(random)), Generation: random.Int64() - random.Int64(), Labels: map[string]string{}}
		for range random.IntN(12) {
			meta.Labels[word(random)] = word(random)
		}
		for range random.IntN(3) {
			meta.Finalizers = append(meta.Finalizers, word(random))
			meta.OwnerReferences = append(meta.OwnerReferences, metav1.OwnerReference{Kind: word(random), UID: types.UID(word(random)), Name: word(random), BlockOwnerDeletion: &yes})
		}
		if random.IntN(2) == 0 {
			at, seconds := metav1.NewTime(time.Unix(random.Int64N(1<<34), 0)), random.Int64N(1<<40)
			meta.DeletionTimestamp, meta.DeletionGracePeriodSeconds = &at, &seconds
		}
		objects = append(objects, &corev1.ConfigMap{TypeMeta: typeMeta("ConfigMap"), ObjectMeta: meta})
	}
	return objects
}

func word(random *rand.Rand) string {
	alphabet := []rune("abcdefgXYZ019-_./ \"\\<ä👕\n")
	result := make([]rune, random.IntN(40))
	for index := range result {
		result[index] = alphabet[random.IntN(len(alphabet))]
	}
	return string(result)
}

// textCBOR writes a JSON document as CBOR with text strings.
func textCBOR(document string) ([]byte, bool) {
	var value any
	if utiljson.Unmarshal([]byte(document), &value) != nil {
		return nil, false
	}
	item, err := cbor.Marshal(value)
	check(err)
	return append([]byte("\xd9\xd9\xf7"), item...), true
}
