package org.lorarar.core;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A folder of LoRAs: the files, and loras.json, which says what each is for. */
public final class LoraShelf {
    public static final String CONTENT = "content";
    public static final String STYLE = "style";

    private static final String INDEX = "loras.json";
    private static final String SUFFIX = ".safetensors";
    private static final long LARGEST = 2_000_000_000L; // bytes of a file
    private static final int LONGEST = 200; // bytes of its name
    private static final long LARGEST_INDEX = 16 << 20;

    public final File folder;

    /** A shelf of this folder; it need not exist until something is added. */
    public LoraShelf(File folder) {
        this.folder = folder;
    }

    /** One LoRA that can be chosen. */
    public static final class Item {
        public final File file;
        public final String name;
        /** CONTENT or STYLE. */
        public final String role;
        /** What a prompt says of it: "a votol cup" of content, "in ink style" of a style. */
        public final String words;
        /** Its picture, or null. */
        public final File thumbnail;

        Item(File file, String name, String role, String words, File thumbnail) {
            this.file = file;
            this.name = name;
            this.role = role;
            this.words = words;
            this.thumbnail = thumbnail;
        }
    }

    /** The LoRAs that are there, in the order of loras.json; none if there is no such file. */
    public List<Item> items() throws LorararException {
        List<Item> items = new ArrayList<>();
        for (Map<String, Object> entry : entries()) {
            File file = new File(folder, text(entry, "file"));
            String role = text(entry, "role");
            boolean known = role.equals(CONTENT) || role.equals(STYLE);
            if (!known || !file.getParentFile().equals(folder)) {
                throw damaged();
            }
            String words = entry.containsKey("prompt") ? text(entry, "prompt") : "";
            File thumbnail = null;
            if (entry.get("thumbnail") != null) {
                thumbnail = new File(folder, text(entry, "thumbnail"));
            }
            if (file.isFile()) {
                items.add(new Item(file, text(entry, "name"), role, words, thumbnail));
            }
        }
        return items;
    }

    /**
     * Copy a LoRA here, in place of one of that name, once it is seen to be one.
     *
     * @param name of the file that it comes from
     * @param role what it is used for, CONTENT or STYLE
     * @return what a reader of it should know, as what was left out
     * @throws LorararException if it has no proper name, is too large, or no LoRA; then nothing
     *     is kept
     */
    public List<String> add(InputStream in, String name, String role, LayerNames names)
            throws LorararException {
        checkName(name);
        List<String> notes;
        List<Map<String, Object>> entries = entries();
        folder.mkdirs();
        File checking = new File(folder, "checking" + AtomicFile.PART); // has the name in messages
        File copy = new File(checking, name);
        AtomicFile.delete(checking);
        checking.mkdirs();
        try {
            try (FileOutputStream out = new FileOutputStream(copy)) {
                AtomicFile.copy(in, out, LARGEST, name);
                out.getFD().sync();
            }
            notes = Lora.load(copy, names).notes;
            AtomicFile.replace(copy, new File(folder, name));
        } catch (LorararException error) {
            throw new LorararException(
                    error.getMessage().replace(copy.getPath(), name), error);
        } catch (IOException error) {
            throw new LorararException(
                    name + ": cannot be kept (" + error.getMessage() + ")", error);
        } finally {
            AtomicFile.delete(checking);
        }
        without(entries, name);
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("file", name);
        entry.put("name", name.substring(0, name.length() - SUFFIX.length()));
        entry.put("role", role);
        entries.add(entry);
        write(entries);
        return notes;
    }

    /** Remove a LoRA and its file. */
    public void remove(Item item) throws LorararException {
        List<Map<String, Object>> entries = entries();
        without(entries, item.file.getName());
        write(entries);
        item.file.delete();
    }

    private static void checkName(String name) throws LorararException {
        boolean proper = !name.startsWith(".") && name.indexOf('/') < 0 && name.indexOf('\\') < 0
                && name.endsWith(SUFFIX)
                && name.getBytes(StandardCharsets.UTF_8).length <= LONGEST;
        for (char each : name.toCharArray()) {
            proper &= !Character.isISOControl(each);
        }
        if (!proper) {
            String shown = name.substring(0, Math.min(LONGEST, name.length()));
            throw new LorararException(
                    "'" + shown + "': is no name of a LoRA; rename it to NAME" + SUFFIX);
        }
    }

    private static void without(List<Map<String, Object>> entries, String file) {
        for (int i = entries.size() - 1; i >= 0; i--) {
            if (file.equals(entries.get(i).get("file"))) {
                entries.remove(i);
            }
        }
    }

    @SuppressWarnings("unchecked")
    private List<Map<String, Object>> entries() throws LorararException {
        List<Map<String, Object>> entries = new ArrayList<>();
        File index = new File(folder, INDEX);
        if (!index.exists()) {
            return entries;
        }
        byte[] bytes = AtomicFile.read(index, LARGEST_INDEX);
        try {
            for (Object each : (List<Object>) Json.parse(
                    new String(bytes, StandardCharsets.UTF_8))) {
                entries.add((Map<String, Object>) each);
            }
        } catch (IllegalArgumentException | ClassCastException error) {
            throw damaged();
        }
        return entries;
    }

    private void write(List<Map<String, Object>> entries) throws LorararException {
        AtomicFile.write(
                new File(folder, INDEX), Json.write(entries).getBytes(StandardCharsets.UTF_8));
    }

    private String text(Map<String, Object> entry, String name) throws LorararException {
        Object value = entry.get(name);
        if (!(value instanceof String)) {
            throw damaged();
        }
        return (String) value;
    }

    private LorararException damaged() {
        return new LorararException(folder.getName() + "/" + INDEX + ": is damaged");
    }
}
