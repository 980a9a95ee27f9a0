package org.lorarar.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import java.io.File;
import java.io.IOException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.junit.Test;

public class TokenizerTest {
    @Test
    public void givesTheIdsOfPythonForAnyText() throws IOException {
        Map<String, Tokenizer> tokenizers = new HashMap<>();
        for (Fields row : DrawingVectors.rows(DrawingVectors.json("tokens.json"))) {
            String folder = row.text("folder");
            if (!tokenizers.containsKey(folder)) {
                tokenizers.put(folder, Tokenizer.read(new File(DrawingVectors.FOLDER, folder)));
            }
            String text = row.text("text");
            Tokenizer tokenizer = tokenizers.get(folder);
            String found = Arrays.toString(tokenizer.ids(text));
            assertEquals(folder + ": " + text, row.list("ids").toString(), found);
            assertEquals(folder + ": " + text, row.small("cut"), tokenizer.cut(text));
        }
    }

    @Test
    public void aFolderWithoutATokenizerIsOneLine() {
        File folder = new File(DrawingVectors.FOLDER, "manifests");
        try {
            Tokenizer.read(folder);
        } catch (LorararException error) {
            assertTrue(error.getMessage(), error.getMessage().matches(
                ".*: no usable tokenizer \\(.*\\); export it again"));
            return;
        }
        fail("no error");
    }
}
