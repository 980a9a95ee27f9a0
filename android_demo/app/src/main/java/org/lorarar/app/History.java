package org.lorarar.app;

import android.graphics.Bitmap;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.text.SimpleDateFormat;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.List;
import java.util.Locale;
import org.lorarar.core.AtomicFile;
import org.lorarar.core.Choices;
import org.lorarar.core.LorararException;

/** The finished pictures: PNG files named by their time, each with its choices as JSON beside. */
final class History {
    private static final String PICTURE = ".png";
    private static final String CHOICES = ".json";
    private static final long LARGEST_CHOICES = 1 << 20;

    private final File folder;

    History(File folder) {
        this.folder = folder;
    }

    /** All pictures, newest first. */
    List<File> pictures() {
        List<File> pictures = new ArrayList<>();
        String[] names = folder.list();
        if (names == null) {
            return pictures;
        }
        Arrays.sort(names, Collections.reverseOrder());
        for (String name : names) {
            if (name.endsWith(PICTURE)) {
                pictures.add(new File(folder, name));
            }
        }
        return pictures;
    }

    /** Keep a picture; its choices are written first, so no picture is without. */
    void add(Bitmap picture, Choices choices) throws LorararException {
        folder.mkdirs();
        String name = new SimpleDateFormat("yyyyMMdd-HHmmss-SSS", Locale.ROOT).format(new Date());
        ByteArrayOutputStream png = new ByteArrayOutputStream();
        picture.compress(Bitmap.CompressFormat.PNG, 100, png);
        AtomicFile.write(new File(folder, name + CHOICES), choices.json());
        AtomicFile.write(new File(folder, name + PICTURE), png.toByteArray());
    }

    /** @throws LorararException if they are missing or damaged */
    Choices choicesOf(File picture) throws LorararException {
        return Choices.read(AtomicFile.read(choicesFile(picture), LARGEST_CHOICES));
    }

    void delete(File picture) {
        picture.delete();
        choicesFile(picture).delete();
    }

    private static File choicesFile(File picture) {
        String name = picture.getName();
        String stem = name.substring(0, name.length() - PICTURE.length());
        return new File(picture.getParentFile(), stem + CHOICES);
    }
}
