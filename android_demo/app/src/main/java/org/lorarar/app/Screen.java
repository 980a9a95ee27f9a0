package org.lorarar.app;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.TextView;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import org.lorarar.core.AtomicFile;

/** What all screens have: the row of screens, what is being done, and what went wrong. */
abstract class Screen extends Activity implements Studio.Watcher {
    private static final Class<?>[] SCREENS = {
        DrawScreen.class, PicturesScreen.class, LorasScreen.class, ModelsScreen.class,
        BenchmarkScreen.class, AboutScreen.class,
    };
    private static final int[] TITLES = {
        R.string.title_draw, R.string.title_pictures, R.string.title_loras,
        R.string.title_models, R.string.title_benchmark, R.string.title_about,
    };
    private static final long LARGEST = 1L << 30;

    Studio studio;

    /** The layout under the row, put into the page that scrolls. */
    abstract int layout();

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        studio = LorararApp.studio(this);
        setContentView(R.layout.screen);
        getLayoutInflater().inflate(layout(), this.<ViewGroup>findView(R.id.content), true);
        ViewGroup row = findView(R.id.screens);
        for (int i = 0; i < SCREENS.length; i++) {
            row.addView(link(SCREENS[i], TITLES[i]));
        }
        findViewById(R.id.error).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                studio.dismissProblem();
            }
        });
    }

    @Override
    protected void onStart() {
        super.onStart();
        studio.watch(this);
        changed();
    }

    @Override
    protected void onStop() {
        studio.unwatch(this);
        super.onStop();
    }

    /** Show what the studio says now; a screen shows its own things after these. */
    @Override
    public void changed() {
        setText(R.id.doing, studio.status());
        setText(R.id.error, studio.problem());
    }

    /** Have {@link #pressed} told of these buttons. */
    final void listen(int... buttons) {
        for (int button : buttons) {
            findViewById(button).setOnClickListener(new View.OnClickListener() {
                @Override
                public void onClick(View view) {
                    pressed(view.getId());
                }
            });
        }
    }

    /** A button that {@link #listen} named was pressed. */
    void pressed(int button) {}

    /** Have the system ask for a document; {@link #chosen} gets it. */
    final void ask(Intent dialogue, int request) {
        try {
            startActivityForResult(
                    dialogue.addCategory(Intent.CATEGORY_OPENABLE), request);
        } catch (ActivityNotFoundException error) {
            studio.say(getString(R.string.failed, error.getMessage()));
        }
    }

    /** Have the system ask for a document of any type, as none knows .safetensors. */
    final void askToOpen(int request) {
        ask(new Intent(Intent.ACTION_OPEN_DOCUMENT).setType("*/*"), request);
    }

    @Override
    protected final void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (result == RESULT_OK && data != null && data.getData() != null) {
            chosen(request, data.getData());
        }
    }

    /** A person has chosen what {@link #ask} asked for. */
    void chosen(int request, Uri document) {}

    /** API 26's findViewById, of any type. */
    @SuppressWarnings("unchecked")
    final <T extends View> T findView(int id) {
        return (T) findViewById(id);
    }

    /** Show a text, or nothing in place of null; what is shown already is not read out again. */
    final void setText(int id, String text) {
        TextView view = findView(id);
        view.setVisibility(text == null ? View.GONE : View.VISIBLE);
        if (text != null && !text.contentEquals(view.getText())) {
            view.setText(text);
        }
    }

    /** Let another app have a copy of a file. */
    final void share(File file, String type) {
        File copy = new File(ShareProvider.folder(this), file.getName());
        copy.getParentFile().mkdirs();
        try (InputStream in = new FileInputStream(file);
                OutputStream out = new FileOutputStream(copy)) {
            AtomicFile.copy(in, out, LARGEST, file.getName());
        } catch (IOException error) {
            studio.say(getString(R.string.failed, error.getMessage()));
            return;
        }
        Uri address = ShareProvider.address(copy);
        Intent intent = new Intent(Intent.ACTION_SEND).setType(type)
                .putExtra(Intent.EXTRA_STREAM, address)
                .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
        intent.setClipData(ClipData.newRawUri(null, address)); // what the grant is given for
        startActivity(Intent.createChooser(intent, getString(R.string.share)));
    }

    private Button link(final Class<?> screen, int title) {
        Button button = new Button(this, null, android.R.attr.borderlessButtonStyle);
        button.setText(title);
        if (screen == getClass()) {
            setTitle(title);
            button.setSelected(true);
            button.setTextColor(getColor(R.color.accent));
        }
        button.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                open(screen);
            }
        });
        return button;
    }

    /** Bring a screen to the front. */
    final void open(Class<?> screen) {
        if (screen != getClass()) {
            startActivity(new Intent(this, screen)
                    .addFlags(Intent.FLAG_ACTIVITY_REORDER_TO_FRONT));
        }
    }
}
