package org.lorarar.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** What the app keeps between two starts. */
public final class AppFilesTest {
    private static final ZipFolder.Progress SILENT = new ZipFolder.Progress() {
        @Override
        public void unpacked(long bytes) {}
    };

    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    @Test
    public void aJobComesBackAsItWasKept() throws IOException {
        Choices choices = new Choices();
        choices.content = "embedded/votol.safetensors";
        choices.prompt = "a \u00fcber cup \ud83d\ude00";
        choices.seed = Choices.MOST_SEED;
        choices.contentScale = 0.85f;
        File file = temporary.newFile("job");
        new Job(choices, "identity", 1, new byte[] {1, 2, 3}).write(file);
        Job job = Job.read(file);
        assertEquals("identity", job.model);
        assertEquals(1, job.attempts);
        assertArrayEquals(new byte[] {1, 2, 3}, job.state);
        assertArrayEquals(choices.json(), job.choices.json());
        assertTrue(choices.mergesAs(job.choices));
    }

    @Test
    public void aJobThatIsCutShortIsRefusedByName() throws IOException {
        File file = temporary.newFile("job");
        new Job(new Choices(), "identity", 0, new byte[9]).write(file);
        byte[] whole = AtomicFile.read(file, 1 << 20);
        for (int length = 0; length < whole.length; length++) {
            AtomicFile.write(file, java.util.Arrays.copyOf(whole, length));
            try {
                Job.read(file);
                fail("read " + length + " bytes");
            } catch (LorararException error) {
                assertTrue(error.getMessage().startsWith("job: is damaged"));
            }
        }
    }

    @Test
    public void choicesOutOfRangeAreRefused() throws IOException {
        Choices choices = new Choices();
        choices.steps = 101;
        try {
            Choices.read(choices.json());
            fail();
        } catch (LorararException error) {
            assertTrue(error.getMessage().contains("steps must be from 1 to 100"));
        }
    }

    @Test
    public void aPromptFollowsTheChoiceUntilItIsTyped() {
        Choices choices = new Choices();
        choices.suggest("a votol cup", "in ink style");
        assertEquals("a votol cup in ink style", choices.prompt);
        choices.prompt = "mine";
        choices.suggest("a votol cup", "in neon style");
        assertEquals("mine", choices.prompt);
    }

    @Test
    public void aZippedFolderIsUnpackedFromItsRootOrItsOnlyFolder() throws IOException {
        for (String prefix : new String[] {"", "sdxl/"}) {
            File folder = new File(temporary.newFolder(), "model");
            unpack(folder, 100, prefix + "lorarar.json", prefix + "unet/a.pte");
            assertTrue(new File(folder, "unet/a.pte").isFile());
            assertFalse(AtomicFile.part(folder).exists());
        }
    }

    @Test
    public void aZipThatLeadsOutIsRefusedAndLeavesNothing() throws IOException {
        String[] bad = {"../a", "/a", "a/../../b", "a\\b", "./a", "a:b", "LORARAR.json"};
        for (String name : bad) {
            File parent = temporary.newFolder();
            try {
                unpack(new File(parent, "model"), 100, "lorarar.json", name);
                fail(name);
            } catch (LorararException error) {
                assertTrue(error.getMessage().startsWith("model.zip: has "));
            }
            assertEquals(name, 0, parent.list().length);
        }
    }

    @Test
    public void aZipThatIsTooLargeIsRefused() throws IOException {
        File parent = temporary.newFolder();
        try {
            unpack(new File(parent, "model"), 15, "lorarar.json", "a");
            fail();
        } catch (LorararException error) {
            assertTrue(error.getMessage().contains("is over"));
        }
        assertEquals(0, parent.list().length);
    }

    @Test
    public void previewsTakeAQuarterOfTheTime() {
        PreviewBudget budget = new PreviewBudget();
        int shown = 0;
        for (int step = 0; step < 100; step++) {
            budget.drew(10);
            if (budget.allows()) {
                budget.showed(25);
                shown++;
            }
        }
        assertTrue(shown >= 8 && shown <= 10);
    }

    private static void unpack(File folder, long most, String... names) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
            for (String name : names) {
                zip.putNextEntry(new ZipEntry(name));
                zip.write(new byte[10]);
            }
        }
        ZipFolder.unpack(
                new ByteArrayInputStream(bytes.toByteArray()), "model.zip", folder, most, SILENT);
    }
}
