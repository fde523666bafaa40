"""What a platform's Python does with the cluster that KUBECONFIG names, by the client library of PyPI.

The shirts' group has no watch cache, so lists and watches of shirts, with their selectors, reach the store.
"""

import unittest

from kubernetes import client, config, dynamic, watch

GROUP, VERSION, PLURAL = "stable.example.com", "v1", "shirts"
NAMESPACE = "python"


def shirt(name, color="green", size="M", **labels):
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Shirt",
        "metadata": {"name": name, "labels": {"color": color, **labels}},
        "spec": {"color": color, "size": size},
    }


def names(listed):
    return [item["metadata"]["name"] for item in listed["items"]]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        config.load_kube_config()
        cls.core, cls.custom = client.CoreV1Api(), client.CustomObjectsApi()
        # Each class has a namespace of its own.
        cls.namespace = f"{NAMESPACE}-{cls.__name__.lower()}"
        cls.core.create_namespace({"metadata": {"name": cls.namespace}})
        cls.at = (GROUP, VERSION, cls.namespace, PLURAL)

    def create(self, *args, **kwargs):
        return self.custom.create_namespaced_custom_object(*self.at, shirt(*args, **kwargs))

    def list(self, **how):
        return self.custom.list_namespaced_custom_object(*self.at, **how)

    def patch(self, name, body, content_type, **how):
        return self.custom.patch_namespaced_custom_object(*self.at, name, body, _content_type=content_type, **how)

    def refused(self, status, call, *args, **how):
        with self.assertRaises(client.ApiException) as refusal:
            call(*args, **how)
        self.assertEqual(refusal.exception.status, status)


class Objects(Case):
    def test_a_custom_resource_is_made_read_replaced_and_deleted(self):
        made = self.create("whole")
        self.refused(409, self.create, "whole")
        read = self.custom.get_namespaced_custom_object(*self.at, "whole")
        self.assertEqual(read["spec"], {"color": "green", "size": "M"})
        read["spec"]["size"] = "L"
        replaced = self.custom.replace_namespaced_custom_object(*self.at, "whole", read)
        self.assertEqual(replaced["metadata"]["uid"], made["metadata"]["uid"])
        self.assertEqual(replaced["metadata"]["generation"], 2)
        # It is based on what is no more.
        self.refused(409, self.custom.replace_namespaced_custom_object, *self.at, "whole", read)
        self.custom.delete_namespaced_custom_object(*self.at, "whole")
        self.refused(404, self.custom.get_namespaced_custom_object, *self.at, "whole")

    def test_a_built_in_kind_is_made_read_replaced_and_deleted(self):
        made = self.core.create_namespaced_config_map(
            self.namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="map-"), data={"a": "1"})
        )
        made.data["a"] = "2"
        self.core.replace_namespaced_config_map(made.metadata.name, self.namespace, made)
        read = self.core.read_namespaced_config_map(made.metadata.name, self.namespace)
        self.assertEqual(read.data, {"a": "2"})
        stale = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
        self.refused(409, self.core.delete_namespaced_config_map, read.metadata.name, self.namespace, body=stale)
        self.core.delete_namespaced_config_map(read.metadata.name, self.namespace)
        self.refused(404, self.core.read_namespaced_config_map, read.metadata.name, self.namespace)

    def test_a_dry_run_makes_nothing(self):
        self.custom.create_namespaced_custom_object(*self.at, shirt("dry"), dry_run="All")
        self.refused(404, self.custom.get_namespaced_custom_object, *self.at, "dry")


class Patches(Case):
    def test_json_patch(self):
        self.create("json")
        step = lambda op, value: {"op": op, "path": "/spec/size", "value": value}
        steps = [step("test", "M"), step("replace", "S")]
        self.assertEqual(self.patch("json", steps, "application/json-patch+json")["spec"]["size"], "S")
        self.refused(422, self.patch, "json", steps, "application/json-patch+json")

    def test_merge_patch(self):
        self.create("merge", team="blue")
        patched = self.patch("merge", {"metadata": {"labels": {"team": None}}}, "application/merge-patch+json")
        self.assertEqual(patched["metadata"]["labels"], {"color": "green"})

    def test_strategic_merge_patch(self):
        port = lambda name, number: {"name": name, "port": number}
        service = {"metadata": {"name": "strategic"}, "spec": {"ports": [port("a", 1)]}}
        self.core.create_namespaced_service(self.namespace, service)
        patched = self.core.patch_namespaced_service(
            "strategic",
            self.namespace,
            {"spec": {"ports": [port("b", 2)]}},
            _content_type="application/strategic-merge-patch+json",
        )
        self.assertEqual(sorted(port.port for port in patched.spec.ports), [1, 2])

    def test_server_side_apply(self):
        content = "application/apply-patch+yaml"
        # The library knows no answer of status 201.
        self.patch("applied", shirt("applied"), content, field_manager="one")
        applied = self.custom.get_namespaced_custom_object(*self.at, "applied")
        self.assertEqual([owner["manager"] for owner in applied["metadata"]["managedFields"]], ["one"])
        again = self.patch("applied", shirt("applied"), content, field_manager="one")
        self.assertEqual(again["metadata"]["resourceVersion"], applied["metadata"]["resourceVersion"])
        other = shirt("applied", color="red")
        self.refused(409, self.patch, "applied", other, content, field_manager="two")
        forced = self.patch("applied", other, content, field_manager="two", force=True)
        self.assertEqual(forced["spec"]["color"], "red")
        self.assertEqual({owner["manager"] for owner in forced["metadata"]["managedFields"]}, {"one", "two"})


class Lists(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for number in range(30):
            color, size = ("green", "red", "blue")[number % 3], "SL"[number % 2]
            labels = {"even": ""} if number % 2 == 0 else {}
            cls.custom.create_namespaced_custom_object(*cls.at, shirt(f"s{number:02}", color, size, **labels))

    def test_selectors_of_labels(self):
        for selector, expected in [
            ("color=green", 10),
            ("color!=green", 20),
            ("color in (green,red),even", 10),
            ("color notin (green)", 20),
            ("!even", 15),
            ("nothing=here", 0),
        ]:
            self.assertEqual(len(names(self.list(label_selector=selector))), expected, selector)

    def test_selectors_of_fields(self):
        self.assertEqual(names(self.list(field_selector="metadata.name=s07")), ["s07"])
        self.assertEqual(len(names(self.list(field_selector="spec.color=green"))), 10)
        self.assertEqual(len(names(self.list(field_selector="spec.color!=green", label_selector="even"))), 10)
        self.refused(400, self.list, field_selector="spec.nothing=x")
        found = self.core.list_namespace(field_selector=f"metadata.name={self.namespace}")
        self.assertEqual([item.metadata.name for item in found.items], [self.namespace])

    def test_pages_are_one_snapshot(self):
        for selector, total in [(None, 30), ("color=green", 10)]:
            how = {"limit": 4} | ({"label_selector": selector} if selector else {})
            first = page = self.list(**how)
            found = names(page)
            # After the first page, and before the last one ends.
            self.create("s00-late")
            while "continue" in page["metadata"] and page["metadata"]["continue"]:
                page = self.list(_continue=page["metadata"]["continue"], **how)
                self.assertEqual(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"])
                found += names(page)
            self.custom.delete_namespaced_custom_object(*self.at, "s00-late")
            self.assertEqual(len(found), total)
            self.assertEqual(found, sorted(set(found)))
            self.assertNotIn("s00-late", found)

    def test_an_exact_revision_is_read_again(self):
        before = self.list(limit=1)["metadata"]["resourceVersion"]
        self.create("s99-late")
        how = {"resource_version": before, "resource_version_match": "Exact", "limit": 100}
        self.assertNotIn("s99-late", names(self.list(**how)))
        self.custom.delete_namespaced_custom_object(*self.at, "s99-late")
        self.refused(504, self.list, resource_version=str(10**9), resource_version_match="NotOlderThan", limit=1)


class Watches(Case):
    def events(self, count, **how):
        watcher, seen = watch.Watch(), []
        stream = watcher.stream(self.custom.list_namespaced_custom_object, *self.at, timeout_seconds=30, **how)
        for event in stream:
            if event["type"] != "BOOKMARK":
                seen.append((event["type"], event["object"]["metadata"]["name"]))
            if len(seen) == count:
                return seen, watcher.resource_version
        self.fail(f"only {seen} in 30 seconds")

    def test_a_watch_goes_on_where_another_ended(self):
        start = self.list()["metadata"]["resourceVersion"]
        for name in ["a", "b", "c"]:
            self.create(name)
        seen, revision = self.events(2, resource_version=start)
        self.assertEqual(seen, [("ADDED", "a"), ("ADDED", "b")])
        self.custom.delete_namespaced_custom_object(*self.at, "a")
        seen, _ = self.events(2, resource_version=revision)
        self.assertEqual(seen, [("ADDED", "c"), ("DELETED", "a")])

    def test_what_leaves_a_selector_is_deleted_and_what_enters_is_added(self):
        start = self.list()["metadata"]["resourceVersion"]
        for selector in [{"label_selector": "color=purple"}, {"field_selector": "spec.color=purple"}]:
            self.assertEqual(names(self.list(**selector)), [])
        self.create("dyed", color="purple")
        self.create("other", color="white")
        for color in ["black", "purple"]:
            body = {"metadata": {"labels": {"color": color}}, "spec": {"color": color}}
            self.patch("dyed", body, "application/merge-patch+json")
        expected = [("ADDED", "dyed"), ("DELETED", "dyed"), ("ADDED", "dyed")]
        for selector in [{"label_selector": "color=purple"}, {"field_selector": "spec.color=purple"}]:
            self.assertEqual(self.events(3, resource_version=start, **selector)[0], expected, selector)

    def test_initial_events_end_with_a_bookmark(self):
        metadata = {"name": "initial", "labels": {"color": "orange"}}
        self.core.create_namespaced_config_map(self.namespace, {"metadata": metadata})
        watcher, seen = watch.Watch(), []
        how = {
            "label_selector": "color=orange",
            "allow_watch_bookmarks": True,
            "send_initial_events": True,
            "resource_version_match": "NotOlderThan",
            "timeout_seconds": 30,
        }
        # The library's lists of custom resources do not take these.
        for event in watcher.stream(self.core.list_namespaced_config_map, self.namespace, **how):
            metadata = event["raw_object"]["metadata"]
            if event["type"] == "BOOKMARK":
                self.assertEqual(metadata["annotations"]["k8s.io/initial-events-end"], "true")
                break
            seen.append(metadata["name"])
        self.assertEqual(seen, ["initial"])


class Dynamic(Case):
    def test_the_dynamic_client_finds_the_kind_and_applies(self):
        found = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version=f"{GROUP}/{VERSION}", kind="Shirt")
        found.server_side_apply(shirt("found"), namespace=self.namespace, field_manager="python")
        self.assertEqual(found.get("found", self.namespace).spec.color, "green")
        listed = found.get(namespace=self.namespace, label_selector="color=green")
        self.assertEqual([item.metadata.name for item in listed.items], ["found"])
        found.delete("found", self.namespace)


class Collections(Case):
    def test_a_collection_is_deleted_by_label(self):
        for name, color in [("a", "green"), ("b", "green"), ("c", "red")]:
            self.create(name, color)
        self.custom.delete_collection_namespaced_custom_object(*self.at, label_selector="color=green")
        self.assertEqual(names(self.list()), ["c"])

    def test_an_owner_takes_its_dependents_along(self):
        owner = self.create("owner", "white")
        owned = shirt("owned", "white")
        owned["metadata"]["ownerReferences"] = [
            {"apiVersion": owner["apiVersion"], "kind": "Shirt", "name": "owner", "uid": owner["metadata"]["uid"]}
        ]
        owned["metadata"]["labels"]["skip-controller-manager-metadata-caching"] = "true"
        self.custom.create_namespaced_custom_object(*self.at, owned)
        start = self.list()["metadata"]["resourceVersion"]
        self.custom.delete_namespaced_custom_object(*self.at, "owner", propagation_policy="Background")
        watcher = watch.Watch()
        for event in watcher.stream(
            self.custom.list_namespaced_custom_object, *self.at, resource_version=start, timeout_seconds=60
        ):
            if (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", "owned"):
                return
        self.fail("the dependent is still there after a minute")


if __name__ == "__main__":
    unittest.main()
