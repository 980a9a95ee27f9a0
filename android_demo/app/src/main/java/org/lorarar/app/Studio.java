package org.lorarar.app;

import android.content.Context;
import android.content.SharedPreferences;
import android.graphics.Bitmap;
import android.net.Uri;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import org.lorarar.core.Choices;
import org.lorarar.core.LayerNames;
import org.lorarar.core.LoraShelf;
import org.lorarar.core.LorararException;
import org.lorarar.core.MergeTime;
import org.lorarar.core.ZipFolder;

/**
 * What the screens show and ask for, one per process.
 *
 * <p>Getters and requests are for the main thread; work is done on the worker's, one piece after
 * the other, and a picture step by step, so that other work comes between the steps.
 */
final class Studio {
    /** A screen that looks again, on the main thread, when anything has changed. */
    interface Watcher {
        void changed();
    }

    private static final String SAVED = "choices";
    private static final long SPARED = 256 << 20; // bytes of storage that a zip leaves free

    final Thumbnails thumbnails = new Thumbnails();
    private final Context context;
    private final Worker worker;
    private final SharedPreferences preferences; // written in the background, before a stop ends
    private final Shelves shelves;
    private final Easel easel;
    private final Atelier atelier;
    private volatile Choices choices = new Choices();
    private volatile List<ModelEntry> models = Collections.emptyList();
    private volatile boolean isMeasuring;
    private volatile float progress;
    private volatile String benchmarkJson;
    private volatile String benchmarkSummary;

    Studio(Context context) {
        this.context = context;
        worker = new Worker(context);
        File files = context.getFilesDir();
        preferences = context.getSharedPreferences(SAVED, Context.MODE_PRIVATE);
        shelves = new Shelves(Embedded.loras(context), new File(files, "imported"));
        easel = new Easel(context, this, worker);
        atelier = new Atelier(context, this, worker, shelves, easel);
        worker.attempt(new Worker.Work() {
            @Override
            public void run() throws LorararException {
                String saved = preferences.getString(SAVED, null);
                if (saved != null) {
                    choices = Choices.read(saved.getBytes(StandardCharsets.UTF_8));
                }
            }
        });
        atelier.start();
    }

    void watch(Watcher watcher) {
        worker.watch(watcher);
    }

    void unwatch(Watcher watcher) {
        worker.unwatch(watcher);
    }

    String status() {
        return worker.status();
    }

    String problem() {
        return worker.problem();
    }

    void dismissProblem() {
        worker.dismissProblem();
    }

    /** Show words as a problem. */
    void say(String words) {
        worker.say(words);
    }

    /** Whether a model is open. */
    boolean ready() {
        return atelier.isReady();
    }

    /** Drop what can be read again. */
    void trim() {
        thumbnails.trim();
    }

    /** A copy, to change and give to {@link #choose}. */
    Choices choices() {
        return choices.copy();
    }

    /** Keep what was chosen, and merge or open what that asks for. */
    synchronized void choose(Choices changed) {
        Choices before = choices;
        if (!Objects.equals(before.content, changed.content)
                || !Objects.equals(before.style, changed.style)) {
            suggest(changed);
        }
        set(changed.copy());
        if (!Objects.equals(before.model, changed.model)) {
            atelier.postOpening(true);
        } else if (!before.mergesAs(changed)) {
            atelier.postMerge();
        }
    }

    private synchronized void set(Choices changed) {
        choices = changed;
        String json = new String(changed.json(), StandardCharsets.UTF_8);
        preferences.edit().putString(SAVED, json).apply();
        worker.changed();
    }

    private void suggest(Choices changed) {
        LoraShelf.Item content = shelves.item(changed.content);
        LoraShelf.Item style = shelves.item(changed.style);
        changed.suggest(content == null ? "" : content.words, style == null ? "" : style.words);
    }

    /** How long the pair's last merge took, or null if no pair draws. */
    MergeTime merged() {
        return atelier.merged();
    }

    /** Embedded ones, then imported ones. */
    List<LoraShelf.Item> loras() {
        return shelves.items();
    }

    /** Whether a LoRA came in the app and so cannot be removed. */
    boolean isEmbedded(LoraShelf.Item item) {
        return shelves.isEmbedded(item);
    }

    /** Copy a LoRA into the app, once it is seen to be one. */
    void importLora(final Uri uri, final String name, final String role) {
        worker.post(R.string.working, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                LayerNames names = atelier.names();
                if (names == null) {
                    return; // preparing failed, which is on the screen
                }
                try (InputStream in = Documents.open(context, uri)) {
                    for (String note : shelves.imported.add(in, name, role, names)) {
                        worker.say(name + ": " + note);
                    }
                } catch (IOException error) {
                    throw Documents.unreadable(name, error);
                }
                lorasChanged();
            }
        });
    }

    void removeLora(final LoraShelf.Item item) {
        worker.post(0, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                shelves.imported.remove(item);
                lorasChanged();
            }
        });
    }

    private void lorasChanged() throws LorararException {
        shelves.read();
        synchronized (this) {
            Choices kept = choices.copy();
            kept.content = shelves.item(kept.content) == null ? null : kept.content;
            kept.style = shelves.item(kept.style) == null ? null : kept.style;
            if (!kept.mergesAs(choices)) {
                set(kept);
            }
        }
        atelier.forget();
    }

    /** What models() gives is as of the last of these. */
    void refreshModels() {
        worker.post(0, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                models = Models.list(context);
            }
        });
    }

    List<ModelEntry> models() {
        return models;
    }

    File modelInUse() {
        Choices now = choices;
        return now.model == null ? Embedded.model(context) : new File(now.model);
    }

    /** Open another model, hashes checked, once the picture that is being drawn is finished. */
    void useModel(File folder) {
        Choices changed = choices();
        String before = changed.model;
        changed.model = folder.equals(Embedded.model(context)) ? null : folder.getPath();
        choose(changed);
        if (Objects.equals(before, changed.model)) {
            atelier.postOpening(true); // again, as it may have been mended
        }
    }

    /** Unpack a zip of an exported folder beside the others. */
    void importZip(final Uri uri, final String name) {
        worker.post(R.string.working, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                unpack(uri, name);
                models = Models.list(context);
            }
        });
    }

    private void unpack(Uri uri, String name) throws LorararException {
        File folder = Models.folderFor(context, name);
        long most = Math.max(0, folder.getParentFile().getUsableSpace() - SPARED);
        try (InputStream in = Documents.open(context, uri)) {
            ZipFolder.unpack(in, name, folder, most, new ZipFolder.Progress() {
                @Override
                public void unpacked(long bytes) {
                    worker.status(context.getString(R.string.unpacking, bytes / 1_000_000));
                }
            });
        } catch (IOException error) {
            throw Documents.unreadable(name, error);
        }
        if (folder.equals(modelInUse())) {
            atelier.postOpening(true);
        }
    }

    /** Draw what is chosen now; later choices do not change it. */
    void draw() {
        if (atelier.isReady() && !easel.isDrawing()) {
            easel.draw(choices());
        }
    }

    void cancel() {
        easel.cancel();
    }

    boolean drawing() {
        return easel.isDrawing();
    }

    int done() {
        return easel.done();
    }

    int steps() {
        return easel.steps();
    }

    /** The picture that is being drawn, as it was when last shown, or null. */
    Bitmap preview() {
        return easel.preview();
    }

    /** The newest finished picture, or null. */
    File lastPicture() {
        List<File> all = easel.pictures();
        return all.isEmpty() ? null : all.get(0);
    }

    /** The finished ones, newest first. */
    List<File> pictures() {
        return easel.pictures();
    }

    void deletePicture(final File picture) {
        worker.post(0, new Worker.Work() {
            @Override
            public void run() {
                easel.history.delete(picture);
                easel.look();
            }
        });
    }

    /** What a picture was drawn from, or null, with words on the screen, if that is damaged. */
    Choices choicesOf(File picture) {
        try {
            return easel.history.choicesOf(picture);
        } catch (LorararException error) {
            worker.say(error.getMessage());
            return null;
        }
    }

    /** Copy a picture to where a person chose to have it. */
    void savePicture(final File picture, final Uri uri) {
        worker.post(0, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                Documents.save(context, picture, uri);
            }
        });
    }

    boolean measuring() {
        return isMeasuring;
    }

    /** Of measuring, 0 to 1. */
    float progress() {
        return progress;
    }

    /** The last measurement, or null. */
    String benchmarkJson() {
        return benchmarkJson;
    }

    /** The last measurement in words, or null. */
    String benchmarkSummary() {
        return benchmarkSummary;
    }

    /** Merge the chosen pair many times and draw with it, once nothing is being drawn. */
    void benchmark() {
        if (!atelier.isReady() || isMeasuring || easel.isDrawing()) {
            return;
        }
        if (choices.content == null || choices.style == null) {
            worker.say(context.getString(R.string.choose_pair));
            return;
        }
        isMeasuring = true;
        progress = 0;
        worker.post(R.string.working, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                try {
                    measure(choices);
                } finally {
                    isMeasuring = false;
                }
            }
        });
    }

    private void measure(Choices asked) throws LorararException {
        OpenModel used = atelier.modelWith(asked);
        if (used == null) {
            return;
        }
        try {
            benchmarkJson = Benchmark.run(
                    context, used.pipeline, used.content(), used.style(),
                    DrawingTask.request(asked), Benchmark.device(context),
                    new Benchmark.Progress() {
                        @Override
                        public void done(float share) {
                            progress = share;
                            worker.changed();
                        }
                    });
            benchmarkSummary = Benchmark.summary(context, benchmarkJson);
        } finally {
            atelier.forget();
        }
    }

    /** At the first start: the first subject and the first style. */
    synchronized void chooseFirst() {
        if (preferences.contains(SAVED)) {
            return;
        }
        Choices first = choices.copy();
        first.content = shelves.first(LoraShelf.CONTENT);
        first.style = shelves.first(LoraShelf.STYLE);
        suggest(first);
        set(first);
    }

    /** Choose the embedded one. */
    synchronized void forgetModel() {
        Choices embedded = choices.copy();
        embedded.model = null;
        set(embedded);
    }

    /** After a picture: the model and the LoRAs of now. */
    void drawn() {
        atelier.drawn();
    }

    /** For the worker's thread: the model with these LoRAs merged into it, null if none is open. */
    OpenModel modelWith(Choices asked) throws LorararException {
        return atelier.modelWith(asked);
    }
}
