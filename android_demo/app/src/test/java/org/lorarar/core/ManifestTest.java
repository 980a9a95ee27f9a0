package org.lorarar.core;

import static org.junit.Assert.assertEquals;

import java.io.File;
import java.io.IOException;
import org.junit.Test;

public class ManifestTest {
    @Test
    public void foldersGetTheVerdictsOfPython() throws IOException {
        for (Fields row : DrawingVectors.rows(DrawingVectors.json("manifests.json"))) {
            String name = row.text("folder");
            assertEquals(name, comparable(row.text("without")), verdict(name, false));
            assertEquals(name, comparable(row.text("with")), verdict(name, true));
        }
    }

    private static String verdict(String name, boolean withHashes) {
        File folder = new File(DrawingVectors.FOLDER, "manifests/" + name);
        try {
            PipelineManifest.read(folder).checkFiles(folder, withHashes);
        } catch (LorararException error) {
            return comparable(error.getMessage().replace(folder.toString(), "{folder}"));
        }
        return "good";
    }

    /** Without what a library says of bad JSON, and Python of an object without keys. */
    private static String comparable(String message) {
        return message.replaceAll("damaged \\((JSONDecodeError|AttributeError|no ).*\\);",
            "damaged;");
    }
}
