"""Last: the file that all the others have filled is whole, and `audit verify` would notice if it were not."""

import subprocess

from world import SECRET, Trial


class Chain(Trial):
    def test_holds_no_secret_and_no_signature(self):
        text = self.world.audit.path.read_text()
        self.assertGreater(text.count('"exeat":"intent"'), 40, "the other tests have not run")
        for word in ("s3cret", SECRET, "Signature=", "X-Amz-Signature", "n\u00e4ws", "some bytes", "AWS4-HMAC"):
            self.assertNotIn(word, text)

    def verify(self, path):
        return subprocess.run([self.world.program, "audit", "verify", path], capture_output=True, text=True, timeout=60)

    def test_verifies(self):
        done = self.verify(self.world.audit.path)
        self.assertEqual(done.returncode, 0, done)

    def test_does_not_verify_with_one_word_changed_or_one_line_gone(self):
        lines = self.world.audit.path.read_bytes().splitlines(keepends=True)
        place = next(n for n, line in enumerate(lines) if b'"decision":"deny"' in line and n + 1 < len(lines))
        changed = lines[:place] + [lines[place].replace(b'"decision":"deny"', b'"decision":"none"')] + lines[place + 1:]
        for name, wrong in (("changed", changed), ("shorter", lines[:place] + lines[place + 1:])):
            path = self.world.folder / f"{name}.jsonl"
            path.write_bytes(b"".join(wrong))
            with self.subTest(name):
                self.assertEqual(self.verify(path).returncode, 1)
